//! One binary for machines with and without a driver: nothing here may be linked to libcuda, or the program would not
//! even start without it.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// The libraries that the loader must find before `main`, read from an ELF file of 64 bits, little-endian.
fn needed(elf: &[u8]) -> Vec<String> {
    let at = |offset: u64, bytes: usize| -> u64 {
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&elf[offset as usize..][..bytes]);
        u64::from_le_bytes(word)
    };
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let (headers, size, count) = (at(32, 8), at(54, 2), at(56, 2));
    let segments: Vec<u64> = (0..count).map(|i| headers + i * size).collect();
    let kind = |segment: &u64| at(*segment, 4) as u32;

    // Virtual address to file offset, by the segment that holds it.
    let loads: BTreeMap<u64, u64> =
        segments.iter().filter(|s| kind(s) == PT_LOAD).map(|s| (at(s + 16, 8), at(s + 8, 8))).collect();
    let offset_of = |address: u64| {
        let (start, offset) = loads.range(..=address).next_back().expect("an address in some segment");
        address - start + offset
    };

    let dynamic = segments.iter().find(|s| kind(s) == PT_DYNAMIC).expect("a dynamic program");
    let (start, length) = (at(dynamic + 8, 8), at(dynamic + 32, 8));
    let entries: Vec<(u64, u64)> =
        (start..start + length).step_by(16).map(|entry| (at(entry, 8), at(entry + 8, 8))).collect();
    let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB).expect("a string table").1;
    let strings = offset_of(strings) as usize;
    let text = |name: u64| {
        let bytes = &elf[strings + name as usize..];
        let end = bytes.iter().position(|byte| *byte == 0).expect("a terminated string");
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    entries.iter().filter(|(tag, _)| *tag == DT_NEEDED).map(|(_, name)| text(*name)).collect()
}

#[test]
fn this_program_starts_without_libcuda() {
    // The call makes the linker keep everything that could refer to the driver.
    let _ = gradus_kernels_cuda::open(0);
    let path = std::env::current_exe().expect("the path of this test");
    let needed = needed(&std::fs::read(path).expect("this test can read itself"));
    assert!(needed.iter().any(|library| library.starts_with("libc.so")), "{needed:?}");
    assert!(!needed.iter().any(|library| library.contains("cuda")), "{needed:?}");
}
