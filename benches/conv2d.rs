//! Convolutions of images, forward and both gradients. Elements are FLOPs, the same for all three:
//! `2 · n · out · (in / groups) · kernel² · height' · width'`, with the height and width of the result.

mod common;

use common::{bench, random, settings};
use criterion::Throughput::Elements;
use gradus::{Conv, DType, Result};

/// What is convolved with what.
struct Case {
    name: &'static str,
    input: [usize; 4],
    weight: [usize; 4],
    conv: Conv,
}

fn main() -> Result<()> {
    let same = Conv::default().padding(1);
    let cases = [
        Case { name: "first", input: [64, 1, 28, 28], weight: [32, 1, 3, 3], conv: same },
        Case { name: "3x3", input: [4, 64, 56, 56], weight: [64, 64, 3, 3], conv: same },
        Case { name: "1x1", input: [4, 256, 28, 28], weight: [64, 256, 1, 1], conv: Conv::default() },
        Case {
            name: "stem",
            input: [4, 3, 112, 112],
            weight: [64, 3, 7, 7],
            conv: Conv::default().stride(2).padding(3),
        },
        Case { name: "depthwise", input: [4, 96, 56, 56], weight: [96, 1, 3, 3], conv: same.groups(96) },
        // Extents that divide into nothing.
        Case { name: "ragged", input: [3, 17, 31, 29], weight: [19, 17, 3, 3], conv: same },
    ];
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("conv2d");
    for Case { name, input, weight: kernel, conv } in cases {
        let (x, weight) = (random(input, DType::F32)?, random(kernel, DType::F32)?);
        let gradient = random(x.conv2d(&weight, None, &conv)?.shape(), DType::F32)?;
        let flops = Elements((2 * gradient.numel() * kernel[1] * kernel[2] * kernel[3]) as u64);
        let [n, c, h, w] = input;
        let shape = format!("{n}x{c}x{h}x{w}_{}/float32", kernel[0]);
        bench(&mut group, &format!("{name}_forward/{shape}"), flops.clone(), || {
            x.conv2d(&weight, None, &conv)
        });
        bench(&mut group, &format!("{name}_grad_input/{shape}"), flops.clone(), || {
            gradient.conv_grad_input(&weight, input, &conv)
        });
        bench(&mut group, &format!("{name}_grad_weight/{shape}"), flops, || {
            gradient.conv_grad_weight(&x, kernel, &conv)
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
