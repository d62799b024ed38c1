//! Hopper's units in the emulator: right kernels pass in every order, and each planted bug of `emulated/planted_hopper.cu` is found.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod planted;

use gradus_kernels_cuda::memory::Memory;
use gradus_kernels_cuda::module::Launch;
use gradus_kernels_cuda::tensor_map::{Element, Swizzle, TensorMap, Tiled};
use gradus_kernels_cuda::{CudaError, emulator};
use planted::Gpu;

/// An emulated Hopper.
fn gpu() -> Option<Gpu> {
    emulator::set_compute_capability(9, 0);
    Gpu::with_kernels("planted_hopper.cu")
}

fn upload(gpu: &Gpu, element: Element, values: &[f32]) -> Memory {
    let bytes: Vec<u8> = values.iter().flat_map(|&x| encode(element, x)).collect();
    gpu.upload(&bytes)
}

/// A small integer or half of one, exact in every type.
fn encode(element: Element, x: f32) -> Vec<u8> {
    let half = |x: f32| {
        let (sign, magnitude) = (u16::from(x < 0.0) << 15, x.abs());
        if magnitude == 0.0 {
            return sign;
        }
        let exponent = magnitude.log2().floor() as i32;
        let mantissa = (magnitude / 2f32.powi(exponent) - 1.0) * 1024.0;
        sign | ((exponent + 15) as u16) << 10 | mantissa as u16
    };
    match element {
        Element::F16 => half(x).to_le_bytes().to_vec(),
        Element::Bf16 => ((x.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        Element::F32 | Element::Tf32 => x.to_le_bytes().to_vec(),
        Element::I32 => (x as i32).to_le_bytes().to_vec(),
        Element::U8 => vec![x as i32 as u8],
    }
}

fn number(i: usize, k: usize) -> f32 {
    ((i * 5 + k * 3 + i * k / 7) % 9) as f32 - 4.0
}

/// A map of a row-major matrix with rows of 128 bytes in a box.
fn map(memory: &Memory, element: Element, [rows, columns]: [usize; 2], box_dims: [u32; 2]) -> TensorMap {
    let size = if matches!(element, Element::F16 | Element::Bf16) { 2 } else { 4 };
    let tensor = Tiled {
        element,
        address: memory.address(),
        dims: &[columns as u64, rows as u64],
        strides: &[(columns * size) as u64],
        box_dims: &box_dims,
        swizzle: Swizzle::Bytes128,
    };
    tensor.encode().unwrap()
}

/// Runs a kernel of a tile in several orders: what was reported, and whether results were right, each time.
fn tile(
    gpu: &Gpu,
    name: &str,
    element: Element,
    n: usize,
    [a_by_k, b_by_k]: [bool; 2],
) -> Vec<(Option<String>, bool)> {
    let k = if element == Element::Tf32 { 32 } else { 64 };
    let side = |rows: usize, by_k: bool, seed: usize| {
        let shape = if by_k { [rows, k] } else { [k, rows] };
        let values: Vec<f32> = (0..rows * k)
            .map(|e| (e / shape[1], e % shape[1]))
            .map(|(r, c)| if by_k { number(r + seed, c) } else { number(c + seed, r) })
            .collect();
        let memory = upload(gpu, element, &values);
        let box_dims = if by_k { [k as u32, rows as u32] } else { [64, 64] };
        let of = map(&memory, element, shape, box_dims);
        (memory, of)
    };
    let ((_a, a), (_b, b)) = (side(64, a_by_k, 0), side(n, b_by_k, 3));
    let expected: Vec<f32> =
        (0..64 * n).map(|e| (0..k).map(|l| number(e / n, l) * number(e % n + 3, l)).sum()).collect();
    let launch = Launch { shared: 64 * 1024, ..Launch::new(1, 128) };
    let run = |_| {
        let y = Memory::new(gpu.context, 4 * 64 * n).unwrap();
        let to = y.address();
        let report = gpu.run(name, launch, &[(&a).into(), (&b).into(), (&to).into()]);
        (report, gpu.floats(&y) == expected)
    };
    (0..6).map(run).collect()
}

#[test]
fn tiles_of_every_layout_and_type_multiply() {
    let Some(gpu) = gpu() else { return };
    let bf16 = Element::Bf16;
    for (name, element, n, layout) in [
        ("tile_nt", bf16, 64, [true, true]),
        ("tile_nn", bf16, 128, [true, false]),
        ("tile_tt", bf16, 128, [false, true]),
        ("tile_tn", bf16, 256, [false, false]),
        ("tile_f16", Element::F16, 128, [true, false]),
        ("tile_tf32", Element::Tf32, 64, [true, true]),
    ] {
        for outcome in tile(&gpu, name, element, n, layout) {
            assert_eq!(outcome, (None, true), "{name}");
        }
    }
}

#[test]
fn matrix_instructions_that_are_not_ordered_are_found() {
    let Some(gpu) = gpu() else { return };
    let run = |name: &str| tile(&gpu, name, Element::Bf16, 64, [true, true]);
    for (name, words) in [
        ("tile_without_fence", "wgmma without wgmma_fence"),
        ("tile_never_waited_for", "a thread ends before its wgmma are waited for"),
        ("tile_of_three_warps", "wgmma, which all four warps of a warpgroup issue"),
    ] {
        for (report, _) in run(name) {
            assert!(report.as_ref().is_some_and(|r| r.contains(words)), "{name}: {report:?}");
        }
    }
    assert!(run("tile_read_too_early").contains(&(None, false)));
}

#[test]
fn errors_of_rings_and_clusters_are_found() {
    let Some(gpu) = gpu() else { return };
    let (bf16, k) = (Element::Bf16, 384);
    let values =
        |rows: usize, seed: usize| (0..rows * k).map(|e| number(e / k + seed, e % k)).collect::<Vec<_>>();
    let (a, b) = (upload(&gpu, bf16, &values(128, 0)), upload(&gpu, bf16, &values(64, 5)));
    let (of_a, of_b) = (map(&a, bf16, [128, k], [64, 64]), map(&b, bf16, [64, k], [64, 32]));
    let expected: Vec<f32> =
        (0..128 * 64).map(|e| (0..k).map(|l| number(e / 64, l) * number(e % 64 + 5, l)).sum()).collect();
    let launch = Launch { shared: 5 * 8192, ..Launch::new(2, 160) };
    let run = |name: &str| {
        let y = Memory::new(gpu.context, 4 * 128 * 64).unwrap();
        let to = y.address();
        let report = gpu.run(name, launch, &[(&of_a).into(), (&of_b).into(), (&to).into()]);
        (report, gpu.floats(&y) == expected)
    };
    for _ in 0..5 {
        assert_eq!(run("ring_right"), (None, true));
    }
    // Sentences of which each report holds one, and whether wrong results are as good.
    let wrong: [(&str, &[&str], bool); 8] = [
        ("ring_without_empty_wait", &["more arrivals than its count", "deadlock"], true),
        ("ring_with_wrong_parity", &["deadlock", "more arrivals than its count"], true),
        ("ring_with_wrong_count", &["deadlock"], false),
        ("ring_without_init_fence", &["without mbarrier_init_fence"], false),
        ("ring_with_few_bytes", &["deadlock", "more bytes arrive"], false),
        ("ring_without_drain", &["of a block that has ended"], false),
        ("ring_released_early", &["more arrivals than its count", "deadlock"], true),
        ("ring_with_misplaced_box", &["not aligned to 128 bytes"], false),
    ];
    for (name, words, or_wrong) in wrong {
        let found = (0..20).map(|_| run(name)).any(|(report, right)| {
            let said = report.as_ref().is_some_and(|r| words.iter().any(|words| r.contains(words)));
            assert!(said || report.is_none(), "{name}: {report:?}");
            said || or_wrong && !right
        });
        assert!(found, "{name}");
    }
    let odd = gpu.run("ring_right", Launch { grid: [3, 1, 1], ..launch }, &[]).unwrap();
    assert!(odd.contains("no whole number of clusters"), "{odd}");
}

#[test]
fn stores_that_see_too_little_or_too_much_are_found() {
    let Some(gpu) = gpu() else { return };
    let (bf16, rows) = (Element::Bf16, 160); // of three tiles the last is cut
    let values: Vec<f32> = (0..rows * 64).map(|e| number(e / 64, e % 64)).collect();
    let x = upload(&gpu, bf16, &values);
    let of_x = map(&x, bf16, [rows, 64], [64, 64]);
    let expected: Vec<u8> = values.iter().flat_map(|x| encode(bf16, 2.0 * x)).collect();
    let launch = Launch { shared: 3 * 8192, ..Launch::new(1, 128) };
    let run = |name: &str| {
        let y = Memory::new(gpu.context, rows * 128).unwrap();
        let of_y = map(&y, bf16, [rows, 64], [64, 64]);
        let report = gpu.run(name, launch, &[(&of_x).into(), (&of_y).into()]);
        let mut bytes = vec![0; y.len()];
        y.read(&mut bytes, &gpu.stream).unwrap();
        (report, bytes == expected)
    };
    for _ in 0..5 {
        assert_eq!(run("twice_right"), (None, true));
    }
    for name in ["twice_without_proxy_fence", "twice_with_fence_after_barrier", "twice_reused_too_early"] {
        assert!((0..20).any(|_| run(name) == (None, false)), "{name}");
    }
    let ended = (0..20).filter_map(|_| run("twice_never_read").0);
    assert!(ended.into_iter().any(|report| report.contains("of a block that has ended")));
}

#[test]
fn registers_that_there_are_not_are_waited_for_in_vain() {
    let Some(gpu) = gpu() else { return };
    let y = Memory::new(gpu.context, 4 * 384).unwrap();
    let to = y.address();
    let run = |name: &str| gpu.run(name, Launch::new(1, 384), &[(&to).into()]);
    assert_eq!(run("registers_right"), None);
    assert_eq!(gpu.floats(&y), [1.0; 384]);
    let report = run("registers_too_many").unwrap();
    assert!(report.contains("wait for registers_grow"), "{report}");
}

#[test]
fn maps_beyond_the_limits_are_refused() {
    let Some(gpu) = gpu() else { return };
    let x = upload(&gpu, Element::Bf16, &[0.0; 4096]);
    let right = Tiled {
        element: Element::Bf16,
        address: x.address(),
        dims: &[64, 64],
        strides: &[128],
        box_dims: &[64, 64],
        swizzle: Swizzle::Bytes128,
    };
    assert!(right.encode().is_ok());
    for wrong in [
        Tiled { address: x.address() + 8, ..right },
        Tiled { strides: &[120], ..right },
        Tiled { box_dims: &[128, 64], ..right },
        Tiled { box_dims: &[64, 257], ..right },
        Tiled { dims: &[64, 0], ..right },
        Tiled { strides: &[], ..right },
        Tiled { dims: &[1; 6], strides: &[16; 5], box_dims: &[8; 6], ..right },
    ] {
        let error = wrong.encode().unwrap_err();
        assert!(matches!(error, CudaError::Driver { code: 1, .. }), "{wrong:?}: {error}");
    }
}
