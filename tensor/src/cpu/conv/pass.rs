//! One plan for two directions: the convolution and its gradient in the input are both correlations of framed planes.
//!
//! A [`Pass`] says how outputs arise from sources (the forward pass: y from x; the backward pass: dx from dy):
//!
//! ```text
//! out[start + step · j] = Σ_tap weight[tap] · framed[stride · j + offset(tap)]        for each phase, j < count
//! ```
//!
//! Forward there is one phase, with the stride of the convolution. Backward, `dx[i] = Σ_r w[r] · dy[(i + padding - r ·
//! dilation) / stride]` over the taps r for which the division has no remainder: the positions i that are equal modulo
//! the stride share their taps. They are a phase, a correlation of stride 1 without a single superfluous product.

use super::geometry::{Dims, Geometry, flat, positions, volume};
use super::planes::Frame;

/// How planes of outputs arise from planes of sources.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// Images.
    pub n: usize,
    /// Groups.
    pub groups: usize,
    /// Source channels of a group.
    pub sources: usize,
    /// Output channels of a group.
    pub outs: usize,
    /// The size of a source plane.
    pub source: Dims,
    /// The frame around the sources.
    pub frame: Frame,
    /// Whether products with the frame's zeros are part of the sums: times an infinite weight they are NaN.
    pub padded: bool,
    /// The size of an output plane.
    pub out: Dims,
    /// The kernel.
    pub kernel: Dims,
    /// From the weights of an output channel to those of the next.
    pub weight_out: usize,
    /// From the weights of a source channel to those of the next.
    pub weight_source: usize,
    /// The output positions, dealt into sets that share their taps.
    pub phases: Vec<Phase>,
}

/// Output positions that share their taps.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// The first output position.
    pub start: Dims,
    /// From one output position to the next.
    pub step: Dims,
    /// How many there are.
    pub count: Dims,
    /// From the source of one position to that of the next.
    pub stride: Dims,
    /// The taps along each dim.
    pub taps: [Vec<Tap>; 3],
}

/// A position of the kernel along one dim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tap {
    /// Its index in the kernel.
    pub index: usize,
    /// Its place in the frame, for the first output.
    pub offset: usize,
}

impl Pass {
    /// `y = x ∗ w`.
    pub(super) fn forward(g: &Geometry) -> Pass {
        let taps = |i: usize| {
            (0..g.w[i]).map(|index| Tap { index, offset: index * g.dilation[i] }).collect::<Vec<_>>()
        };
        // The last position that a tap reads, and no more: what a stride leaves over is cut off.
        let size = |i: usize| match g.y[i] {
            0 => 0,
            y => (y - 1) * g.stride[i] + (g.w[i] - 1) * g.dilation[i] + 1,
        };
        let frame = Frame {
            lead: g.padding.map(|p| p as isize),
            dims: std::array::from_fn(size),
            // Neighbours in the output are then neighbours in a row.
            fold: if g.y[2] > 1 { g.stride[2] } else { 1 },
        };
        let phase = Phase {
            start: [0; 3],
            step: [1; 3],
            count: g.y,
            stride: g.stride,
            taps: std::array::from_fn(taps),
        };
        Pass {
            n: g.n,
            groups: g.groups,
            sources: g.c,
            outs: g.k,
            source: g.x,
            frame,
            padded: true,
            out: g.y,
            kernel: g.w,
            weight_out: g.c * volume(g.w),
            weight_source: volume(g.w),
            phases: vec![phase],
        }
    }

    /// `dx = dy ∗ᵀ w`.
    pub(super) fn backward(g: &Geometry) -> Pass {
        let axes: [Vec<Axis>; 3] = std::array::from_fn(|i| Axis::all(g, i));
        // One frame for all phases: from the least position that one of them reads to the largest.
        let ends = |i: usize| {
            let reads = || {
                axes[i]
                    .iter()
                    .filter(|axis| axis.count > 0)
                    .flat_map(|a| a.taps.iter().map(|t| (a.count, t.1)))
            };
            let first = reads().map(|(_, at)| at).min().unwrap_or(0);
            let end = reads().map(|(count, at)| at + count as isize).max().unwrap_or(first);
            (first, (end - first) as usize)
        };
        let ends = [ends(0), ends(1), ends(2)];
        let phases = positions(axes.each_ref().map(Vec::len)).map(|at| {
            let axis: [&Axis; 3] = std::array::from_fn(|i| &axes[i][at[i]]);
            let taps = |i: usize| {
                let offset = |at: isize| (at - ends[i].0) as usize;
                axis[i].taps.iter().map(|&(index, at)| Tap { index, offset: offset(at) }).collect::<Vec<_>>()
            };
            Phase {
                start: axis.map(|a| a.start),
                step: g.stride,
                count: axis.map(|a| a.count),
                stride: [1; 3],
                taps: std::array::from_fn(taps),
            }
        });
        Pass {
            n: g.n,
            groups: g.groups,
            sources: g.k,
            outs: g.c,
            source: g.y,
            frame: Frame { lead: ends.map(|e| -e.0), dims: ends.map(|e| e.1), fold: 1 },
            padded: false,
            out: g.x,
            kernel: g.w,
            weight_out: volume(g.w),
            weight_source: g.c * volume(g.w),
            phases: phases.filter(|p| volume(p.count) > 0).collect(),
        }
    }

    /// Whether the outputs are written in order, all in one phase.
    pub(super) fn is_dense(&self) -> bool {
        self.phases.len() == 1 && self.phases[0].count == self.out
    }

    /// Products for one group of one image.
    pub(super) fn products(&self) -> usize {
        let phase = |p: &Phase| volume(p.count) * p.taps.iter().map(Vec::len).product::<usize>();
        self.phases.iter().map(phase).sum::<usize>().saturating_mul(self.sources * self.outs)
    }

    /// The offsets in the weights, and in a framed image, of every product that makes up an output of a phase.
    ///
    /// `channel` is the distance between source channels and `at` gives the offset of a position in a plane.
    pub(super) fn taps(
        &self,
        phase: &Phase,
        channel: usize,
        at: impl Fn(Dims) -> usize,
    ) -> (Vec<usize>, Vec<usize>) {
        let counts = phase.taps.each_ref().map(Vec::len);
        let taps = |source: usize| {
            positions(counts).map(move |at| (source, std::array::from_fn(|i| phase.taps[i][at[i]])))
        };
        (0..self.sources)
            .flat_map(taps)
            .map(|(source, tap): (usize, [Tap; 3])| {
                let weight = source * self.weight_source + flat(self.kernel, tap.map(|t| t.index));
                (weight, source * channel + at(tap.map(|t| t.offset)))
            })
            .unzip()
    }

    /// The offsets of the sources of each output position of a phase, for its first tap at offset 0.
    pub(super) fn pixels(&self, phase: &Phase, at: impl Fn(Dims) -> usize) -> Vec<usize> {
        positions(phase.count).map(|j| at(std::array::from_fn(|i| j[i] * phase.stride[i]))).collect()
    }
}

/// One phase along one dim, with the positions of its taps in the unframed source.
struct Axis {
    start: usize,
    count: usize,
    taps: Vec<(usize, isize)>,
}

impl Axis {
    /// The phases of the gradient along dim `i`.
    fn all(g: &Geometry, i: usize) -> Vec<Axis> {
        let (stride, padding, dilation) =
            (g.stride[i] as isize, g.padding[i] as isize, g.dilation[i] as isize);
        let axis = |start: usize| {
            let reach = |r: usize| start as isize + padding - r as isize * dilation;
            let taps = (0..g.w[i]).filter(|&r| reach(r) % stride == 0).map(|r| (r, reach(r) / stride));
            let count = g.x[i].saturating_sub(start).div_ceil(g.stride[i]);
            Axis { start, count, taps: taps.collect() }
        };
        (0..g.stride[i].min(g.x[i])).map(axis).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conv, Shape};

    fn geometry(size: usize, kernel: usize, conv: &Conv) -> Geometry {
        let (x, w) = (Shape::from([1, 1, size]), Shape::from([1, 1, kernel]));
        let y = conv.output_shape("conv", x, w).expect("the shapes fit");
        Geometry::new(x, w, y, conv)
    }

    #[test]
    fn phases_cover_each_position_once_and_each_product_once() {
        for (size, kernel) in [(1, 1), (5, 3), (8, 2), (9, 4), (13, 5)] {
            for stride in 1..4 {
                for padding in 0..4 {
                    for dilation in 1..4 {
                        let conv = Conv::default().stride(stride).padding(padding).dilation(dilation);
                        if size + 2 * padding < (kernel - 1) * dilation + 1 {
                            continue;
                        }
                        let g = geometry(size, kernel, &conv);
                        let pass = Pass::backward(&g);
                        let mut seen = vec![0; size];
                        let mut products = 0;
                        for phase in &pass.phases {
                            for j in 0..phase.count[2] {
                                let at = phase.start[2] + j * phase.step[2];
                                seen[at] += 1;
                                for tap in &phase.taps[2] {
                                    let from = (j + tap.offset) as isize - pass.frame.lead[2];
                                    assert!(j + tap.offset < pass.frame.dims[2]);
                                    assert_eq!(
                                        from * stride as isize + (tap.index * dilation) as isize,
                                        (at + padding) as isize
                                    );
                                    products += (0..g.y[2] as isize).contains(&from) as usize;
                                }
                            }
                        }
                        assert_eq!(seen, vec![1; size]);
                        let reads = |o: usize| {
                            (0..kernel).filter(move |r| {
                                (padding..padding + size).contains(&(o * stride + r * dilation))
                            })
                        };
                        assert_eq!(products, (0..g.y[2]).flat_map(reads).count());
                    }
                }
            }
        }
    }
}
