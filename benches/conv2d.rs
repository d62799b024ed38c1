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
    let (plain, same) = (Conv::default(), Conv::default().padding(1));
    let case = |name, input, weight, conv| Case { name, input, weight, conv };
    let cases = [
        case("first", [64, 1, 28, 28], [32, 1, 3, 3], same),
        case("second", [64, 32, 28, 28], [64, 32, 3, 3], same),
        case("3x3", [8, 64, 56, 56], [64, 64, 3, 3], same),
        case("3x3", [8, 128, 28, 28], [128, 128, 3, 3], same),
        case("3x3", [32, 256, 14, 14], [256, 256, 3, 3], same),
        case("3x3", [32, 64, 32, 32], [64, 64, 3, 3], same),
        case("3x3_stride2", [8, 64, 56, 56], [128, 64, 3, 3], same.stride(2)),
        case("1x1", [8, 256, 14, 14], [1024, 256, 1, 1], plain),
        case("stem", [8, 3, 224, 224], [64, 3, 7, 7], Conv::default().stride(2).padding(3)),
        case("lenet1", [64, 1, 28, 28], [6, 1, 5, 5], plain.padding(2)),
        case("lenet2", [64, 6, 14, 14], [16, 6, 5, 5], plain),
        case("depthwise", [8, 128, 56, 56], [128, 1, 3, 3], same.groups(128)),
        case("depthwise_stride2", [8, 128, 56, 56], [128, 1, 3, 3], same.groups(128).stride(2)),
        case("depthwise_5x5", [8, 128, 56, 56], [128, 1, 5, 5], plain.padding(2).groups(128)),
        // Extents that divide into nothing.
        case("ragged", [3, 17, 31, 29], [19, 17, 3, 3], same),
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
