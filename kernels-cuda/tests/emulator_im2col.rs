//! Copies that gather the pixels of images (im2col) in the emulator: every walk of windows is that of a list of them, and planted bugs are
//! found.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod planted;

use gradus_kernels_cuda::memory::Memory;
use gradus_kernels_cuda::module::Launch;
use gradus_kernels_cuda::tensor_map::{Element, Im2col, Swizzle, TensorMap};
use gradus_kernels_cuda::{CudaError, emulator};
use planted::Gpu;

/// An emulated Hopper.
fn gpu() -> Option<Gpu> {
    emulator::set_compute_capability(9, 0);
    Gpu::with_kernels("planted_hopper.cu")
}

/// Images of `channels`, spatial extents with the last dim first, and windows over them.
struct Images {
    channels: usize,
    sizes: Vec<usize>,
    images: usize,
    lower: Vec<i32>,
    upper: Vec<i32>,
    steps: Vec<u32>,
}

impl Images {
    fn dims(&self) -> Vec<u64> {
        let all = [&[self.channels][..], &self.sizes, &[self.images]].concat();
        all.into_iter().map(|n| n as u64).collect()
    }

    fn map(&self, memory: &Memory) -> Result<TensorMap, CudaError> {
        let dims = self.dims();
        let mut strides = vec![2 * dims[0]];
        for &n in &dims[1..dims.len() - 1] {
            strides.push(strides[strides.len() - 1] * n);
        }
        let images = Im2col {
            element: Element::Bf16,
            address: memory.address(),
            dims: &dims,
            strides: &strides,
            lower: &self.lower,
            upper: &self.upper,
            steps: &self.steps,
            channels: 64,
            pixels: 64,
            swizzle: Swizzle::Bytes128,
        };
        images.encode()
    }

    /// Where each window begins: its coordinates, the last dim first, and its image.
    fn windows(&self) -> Vec<Vec<i32>> {
        let mut all: Vec<Vec<i32>> = (0..self.images as i32).map(|n| vec![n]).collect();
        for s in (0..self.sizes.len()).rev() {
            let places =
                (self.lower[s]..self.sizes[s] as i32 + self.upper[s]).step_by(self.steps[s] as usize);
            all = all
                .iter()
                .flat_map(|outer| places.clone().map(move |at| [&[at][..], outer].concat()))
                .collect();
        }
        all
    }

    /// A number for each element, not 0.
    fn value(&self, index: usize) -> u16 {
        (index * 7 % 60_000) as u16 + 1
    }

    /// What is gathered from window number `first` and channel `channel` on, `offsets` further.
    fn gathered(&self, first: usize, channel: usize, offsets: &[i32]) -> Vec<f32> {
        let windows = self.windows();
        let mut out = vec![];
        for number in first..first + 64 {
            let window = windows.get(number);
            for c in channel..channel + 64 {
                let mut index = 0;
                let mut inside = window.is_some() && c < self.channels;
                if let Some(window) = window {
                    index = window[self.sizes.len()];
                    for s in (0..self.sizes.len()).rev() {
                        let at = window[s] + offsets[s];
                        inside &= (0..self.sizes[s] as i32).contains(&at);
                        index = index * self.sizes[s] as i32 + at;
                    }
                }
                out.push(if inside {
                    f32::from(self.value(index as usize * self.channels + c))
                } else {
                    0.0
                });
            }
        }
        out
    }

    fn upload(&self, gpu: &Gpu) -> Memory {
        let n: u64 = self.dims().iter().product();
        let bytes: Vec<u8> = (0..n as usize).flat_map(|i| self.value(i).to_le_bytes()).collect();
        gpu.upload(&bytes)
    }
}

fn integers(gpu: &Gpu, values: &[i32]) -> Memory {
    gpu.upload(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

const ROOM: u32 = 3 * 8192;

#[test]
fn windows_are_walked_along_rows_planes_and_images() {
    let Some(gpu) = gpu() else { return };
    let cases = [
        (vec![50], vec![-3], vec![-5], vec![1]),
        (vec![300], vec![-7], vec![-1], vec![3]),
        (vec![9, 7], vec![-1, -1], vec![-1, -1], vec![1, 1]),
        (vec![9, 7], vec![0, -2], vec![-2, 0], vec![1, 2]),
        (vec![14, 8], vec![-1, 0], vec![-1, 0], vec![2, 3]),
        (vec![5, 4, 3], vec![-1, 0, -1], vec![-1, -2, 0], vec![1, 1, 1]),
        (vec![6, 4, 5], vec![-2, -1, 0], vec![1, 0, -1], vec![2, 1, 3]),
    ];
    for (sizes, lower, upper, steps) in cases {
        for (channels, channel) in [(64, 0), (72, 64), (8, 0)] {
            let of = Images {
                channels,
                sizes: sizes.clone(),
                images: 3,
                lower: lower.clone(),
                upper: upper.clone(),
                steps: steps.clone(),
            };
            let memory = of.upload(&gpu);
            let map = of.map(&memory).unwrap();
            let windows = of.windows();
            for first in [0, 1, windows.len() / 3, windows.len() - 5] {
                for offset in 0..3 {
                    let offsets = vec![offset; sizes.len()];
                    let [inner, outer] = [&windows[first][..sizes.len()], &windows[first][sizes.len()..]];
                    let at = integers(&gpu, &[&[channel as i32], inner, outer, &offsets].concat());
                    let y = Memory::new(gpu.context, 64 * 64 * 4).unwrap();
                    let addresses = [at.address(), y.address()];
                    let kernel = format!("gather_{}", sizes.len() + 2);
                    let arguments = [(&map).into(), (&addresses[0]).into(), (&addresses[1]).into()];
                    let report = gpu.run(&kernel, Launch { shared: ROOM, ..Launch::new(1, 128) }, &arguments);
                    assert_eq!(report, None);
                    let expected = of.gathered(first, channel, &offsets);
                    assert!(
                        gpu.floats(&y) == expected,
                        "{sizes:?} {lower:?} {upper:?} {steps:?} {first} {offset}"
                    );
                }
            }
        }
    }
}

/// Images whose windows have a padding of 1 around them.
fn padded() -> Images {
    Images {
        channels: 64,
        sizes: vec![9, 7],
        images: 4,
        lower: vec![-1, -1],
        upper: vec![-1, -1],
        steps: vec![1, 1],
    }
}

#[test]
fn pixels_come_to_every_block_that_they_are_for() {
    let Some(gpu) = gpu() else { return };
    let of = padded();
    let memory = of.upload(&gpu);
    let map = of.map(&memory).unwrap();
    let at = integers(&gpu, &[0, 2, 3, 1, 2, 0]);
    let each = of.windows().len() / of.images;
    let first = of.windows().iter().position(|window| window[..] == [2, 3, 1]).unwrap();
    for _ in 0..5 {
        let y = Memory::new(gpu.context, 2 * 64 * 64 * 4).unwrap();
        let addresses = [at.address(), y.address()];
        let arguments = [(&map).into(), (&addresses[0]).into(), (&addresses[1]).into()];
        assert_eq!(
            gpu.run("gather_shared", Launch { shared: ROOM, ..Launch::new(2, 128) }, &arguments),
            None
        );
        let expected = [of.gathered(first + each, 0, &[2, 0]), of.gathered(first, 0, &[2, 0])].concat();
        assert!(gpu.floats(&y) == expected);
    }
}

#[test]
fn windows_outside_of_the_box_and_copies_of_the_other_kind_are_found() {
    let Some(gpu) = gpu() else { return };
    let of = padded();
    let memory = of.upload(&gpu);
    let map = of.map(&memory).unwrap();
    let at = integers(&gpu, &[0, 2, 3, 1, 2, 0]);
    let y = Memory::new(gpu.context, 64 * 64 * 4).unwrap();
    let addresses = [at.address(), y.address()];
    for (kernel, words) in [
        ("gather_outside", "outside of the bounding box"),
        ("gather_too_far", "an offset is out of range"),
        ("gather_as_a_box", "the map is for the other kind"),
        ("gather_3", "the map has another rank"),
    ] {
        let arguments = [(&map).into(), (&addresses[0]).into(), (&addresses[1]).into()];
        let report = gpu.run(kernel, Launch { shared: ROOM, ..Launch::new(1, 128) }, &arguments).unwrap();
        assert!(report.contains(words), "{kernel}: {report}");
    }
}

#[test]
fn maps_of_images_beyond_the_limits_are_refused() {
    let Some(gpu) = gpu() else { return };
    let memory = padded().upload(&gpu);
    assert!(padded().map(&memory).is_ok());
    for wrong in [
        Images { channels: 60, ..padded() },
        Images { lower: vec![-129, 0], ..padded() },
        Images { upper: vec![-10, 0], ..padded() },
        Images { steps: vec![9, 1], ..padded() },
        Images { steps: vec![1], ..padded() },
        Images { images: 0, ..padded() },
    ] {
        assert!(matches!(wrong.map(&memory), Err(CudaError::Driver { code: 1, .. })));
    }
}
