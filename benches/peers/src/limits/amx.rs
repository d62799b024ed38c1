//! bf16 products of tiles, by instructions that stable Rust has no intrinsics for.

/// A measurement, FLOP/s, where processor and system have tiles and let us use them.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn kernel() -> Option<fn() -> f64> {
    None
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use linux::kernel;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use crate::limits::rate;
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    const STEPS: usize = 1_000_000;

    /// Palette 1: eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    fn config() -> Config {
        let mut config =
            Config { palette: 1, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        config.bytes[..8].fill(64);
        config.rows[..8].fill(16);
        config
    }

    /// Whether processor, hypervisor and kernel all agree.
    fn allowed() -> bool {
        if __cpuid(0).eax < 7 || __cpuid(1).ecx >> 27 & 1 == 0 {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        if features >> 24 & 1 == 0 || features >> 22 & 1 == 0 {
            return false;
        }
        let enabled: u32;
        // SAFETY: OSXSAVE is set (checked above), so XGETBV may be executed; it changes nothing but its outputs.
        unsafe { asm!("xgetbv", in("ecx") 0u32, out("eax") enabled, out("edx") _, options(nomem, nostack)) };
        if enabled >> 17 & 3 != 3 {
            return false;
        }
        let refused: i64;
        // SAFETY: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA) only asks for permission; the kernel clobbers rcx and r11.
        unsafe {
            asm!("syscall", inlateout("rax") 158i64 => refused, in("rdi") 0x1023u64, in("rsi") 18u64,
                out("rcx") _, out("r11") _, options(nostack));
        }
        refused == 0
    }

    pub(crate) fn kernel() -> Option<fn() -> f64> {
        // Each product: 16 x 16 sums over 32 pairs.
        allowed().then_some(|| rate((STEPS * 4 * 16 * 16 * 32 * 2) as f64, products))
    }

    fn products() {
        let config = config();
        // SAFETY: `kernel` hands this out only where tiles are allowed. The configuration is 64 bytes, aligned and valid;
        // the tiles are zeroed before use, named as clobbered, and released in the same block.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {steps}",
                "jnz 2b",
                "tilerelease",
                config = in(reg) &raw const config,
                steps = inout(reg) STEPS => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }
}
