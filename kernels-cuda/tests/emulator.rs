//! The emulated GPU lets right kernels pass and says what is wrong with the others: `emulated/planted.cu`.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod planted;

use gradus_kernels_cuda::memory::Memory;
use gradus_kernels_cuda::module::{Argument, Launch};
use gradus_kernels_cuda::{CudaError, devices, emulator};
use planted::Gpu;

fn gpu() -> Option<Gpu> {
    Gpu::with_kernels("planted.cu")
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37) % 101) as f32 / 16.0 - 3.0).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Runs `right`, which must give `expected`, and each of `wrong`, whose report must hold its words; in several orders.
fn judge(
    right: &str,
    wrong: &[(&str, &str)],
    launch: Launch,
    x: &[f32],
    expected: &[f32],
    count: Option<i32>,
) {
    let Some(gpu) = gpu() else { return };
    for _ in 0..4 {
        for &(name, words) in [(right, "")].iter().chain(wrong) {
            let (x, y) = (gpu.upload(&bytes(x)), Memory::new(gpu.context, 4 * expected.len()).unwrap());
            let (from, to) = (x.address(), y.address());
            let mut arguments: Vec<Argument> = vec![(&from).into(), (&to).into()];
            arguments.extend(count.iter().map(Argument::from));
            let report = gpu.run(name, launch, &arguments);
            if words.is_empty() {
                assert_eq!(report, None, "{name}");
                assert_eq!(gpu.floats(&y), expected, "{name}");
            } else {
                let report = report.unwrap_or_else(|| panic!("{name}: nothing was found"));
                assert!(report.contains(words), "{name}: {report}");
            }
        }
    }
    assert_eq!(emulator::allocated(), (0, 0));
}

#[test]
fn missing_and_misplaced_barriers_and_long_indices_are_found() {
    let x = numbers(256);
    let wrong = [
        ("sum_without_barrier", "race: "),
        ("sum_with_barrier_in_branch", "deadlock: "),
        ("sum_past_the_array", "element 256 of a shared array of 256 (block 0,0,0 thread 255)"),
    ];
    judge("sum_right", &wrong, Launch::new(1, 256), &x, &[x.iter().sum()], None);
}

#[test]
fn tails_that_are_one_too_long_and_unaligned_vectors_are_found() {
    let x = numbers(100);
    let wrong = [
        ("twice_with_long_tail", "element 100 of global memory lies in no allocation"),
        ("twice_with_unaligned_vectors", "a vector of 16 bytes is not aligned"),
    ];
    let twice: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
    judge("twice_right", &wrong, Launch::new(4, 32), &x, &twice, Some(100));
}

#[test]
fn collectives_that_lack_lanes_are_found() {
    let x = numbers(64);
    let wrong = [("warp_sum_in_half_a_warp", "16 threads wait for shuffle_xor in block 0 warp 1")];
    let sums: Vec<f32> = x.chunks(32).map(|warp| warp.iter().sum()).collect();
    judge("warp_sum_right", &wrong, Launch::new(1, 64), &x, &sums, None);
}

#[test]
fn races_within_a_warp_are_found() {
    let x = numbers(32);
    let wrong = [("hand_over_without_sync", "race: ")];
    let reversed: Vec<f32> = x.iter().rev().copied().collect();
    judge("hand_over_right", &wrong, Launch::new(1, 32), &x, &reversed, None);
}

#[test]
fn asynchronous_copies_arrive_when_they_are_waited_for_and_may_not_before() {
    let Some(gpu) = gpu() else { return };
    let x = numbers(256);
    let late = (0..20).filter(|_| {
        let (from, to) = (gpu.upload(&bytes(&x)), Memory::new(gpu.context, 1024).unwrap());
        let (a, b) = (from.address(), to.address());
        assert_eq!(gpu.run("copies_right", Launch::new(1, 32), &[(&a).into(), (&b).into()]), None);
        assert_eq!(gpu.floats(&to), x);
        assert_eq!(
            gpu.run("copies_waited_for_too_little", Launch::new(1, 32), &[(&a).into(), (&b).into()]),
            None
        );
        // The poison that was there before is NaN.
        gpu.floats(&to).iter().any(|y| y.is_nan())
    });
    assert_eq!(late.count(), 20);
}

#[test]
fn a_grid_synchronises_in_a_cooperative_launch_only() {
    let Some(gpu) = gpu() else { return };
    let x = numbers(256);
    let (from, to) = (gpu.upload(&bytes(&x)), Memory::new(gpu.context, 4).unwrap());
    let partial = Memory::new(gpu.context, 32).unwrap();
    let (a, p, y) = (from.address(), partial.address(), to.address());
    let arguments = [(&a).into(), (&p).into(), (&y).into()];
    let launch = Launch { cooperative: true, ..Launch::new(8, 32) };
    assert_eq!(gpu.run("grid_sum_right", launch, &arguments), None);
    assert_eq!(gpu.floats(&to), [x.iter().sum::<f32>()]);
    let report = gpu.run("grid_sum_right", Launch::new(8, 32), &arguments).unwrap();
    assert!(report.contains("grid sync in a launch that is not cooperative"), "{report}");
}

#[test]
fn fragments_multiply_as_the_manual_says() {
    let Some(gpu) = gpu() else { return };
    // Small integers: exact in bf16, and so are their sums in f32.
    let (a, b) = (
        |i: usize, k: usize| ((i * 5 + k * 3) % 7) as f32 - 3.0,
        |k: usize, j: usize| ((k + j * 4) % 5) as f32 - 2.0,
    );
    let bf16 = |x: f32| ((x.to_bits() >> 16) as u16).to_le_bytes();
    let rows: Vec<u8> = (0..256).flat_map(|i| bf16(a(i / 16, i % 16))).collect();
    let columns: Vec<u8> = (0..128).flat_map(|i| bf16(b(i % 16, i / 16))).collect();
    let (x, w, y) = (gpu.upload(&rows), gpu.upload(&columns), Memory::new(gpu.context, 512).unwrap());
    let (x, w, to) = (x.address(), w.address(), y.address());
    // `x` and `w` were shadowed by their addresses, and live to the end of the test.
    assert_eq!(gpu.run("tile_right", Launch::new(1, 32), &[(&x).into(), (&w).into(), (&to).into()]), None);
    let expected: Vec<f32> = (0..128).map(|e| (0..16).map(|k| a(e / 8, k) * b(k, e % 8)).sum()).collect();
    assert_eq!(gpu.floats(&y), expected);
}

#[test]
fn launches_that_no_gpu_takes_are_refused() {
    let Some(gpu) = gpu() else { return };
    let to = Memory::new(gpu.context, 4).unwrap().address();
    for (launch, words) in [
        (Launch::new(0, 32), "at least one block"),
        (Launch::new(1, 0), "1 to 1024 threads"),
        (Launch::new(1, 1025), "1 to 1024 threads"),
    ] {
        let report = gpu.run("sum_right", launch, &[(&to).into(), (&to).into()]).unwrap();
        assert!(report.contains(words), "{report}");
    }
    assert!(matches!(gpu.module.kernel("no_such_kernel"), Err(CudaError::Driver { code: 500, .. })));
    assert_eq!(devices().unwrap()[0].name, "Emulated GPU");
}

#[test]
fn a_driver_that_fails_is_played_by_the_emulator() {
    let Some(gpu) = gpu() else { return };
    let error = emulator::failing("cuMemAlloc_v2", 2, || Memory::new(gpu.context, 64)).unwrap_err();
    assert!(matches!(error, CudaError::OutOfMemory { requested: 64, .. }), "{error}");
    let kernel = gpu.module.kernel("sum_right").unwrap();
    // SAFETY: the launch is refused before the kernel is reached.
    let launched = || unsafe { kernel.launch(Launch::new(1, 32), &gpu.stream, &[]) };
    let error = emulator::failing("cuLaunchKernel", 701, launched).unwrap_err();
    assert!(matches!(error, CudaError::Driver { code: 701, .. }), "{error}");
}
