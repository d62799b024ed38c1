//! In which order a convolution wants its images.

use tensor::{DType, Layout, Shape};

use crate::backend::channels::channels_last;

/// How the elements of images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `[n, c, spatial…]`, or any other strides: elements are gathered one by one, but where a kernel has one tap.
    Planes,
    /// `[n, spatial…, c]`: every tap of a window gives a run of channels, in vectors of 16 bytes. A group of the input has so many
    /// channels, the last of which may have been added, and are 0.
    Last { channels: usize },
}

impl Order {
    /// How a result of this shape lies.
    pub(super) fn layout(self, shape: Shape) -> Layout {
        match self {
            Order::Planes => Layout::contiguous(shape),
            Order::Last { .. } => channels_last(shape),
        }
    }
}

/// The extents that the order depends on: channels of a group of the input and of the result, and the groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channels {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) groups: usize,
}

/// The order for a convolution of these channels.
///
/// | | |
/// |---|---|
/// | `f64` | planes: there is no tensor core to feed, and two elements make a vector |
/// | whole vectors of channels in every group | channels last |
/// | one group, 16 bit | channels last, filled up to whole vectors |
/// | one group, `f32` | the same if that adds no more than half of what there is |
/// | else | planes |
pub(super) fn order(dtype: DType, channels: Channels) -> Order {
    let lanes = 16 / dtype.size();
    let Channels { inputs, outputs, groups } = channels;
    let filled = inputs.next_multiple_of(lanes);
    let takes = match dtype {
        DType::F64 => false,
        _ if inputs == 0 || outputs == 0 => false,
        _ if groups > 1 => filled == inputs && outputs.is_multiple_of(lanes),
        DType::F32 => filled * 2 <= inputs * 3,
        _ => true,
    };
    if takes { Order::Last { channels: filled } } else { Order::Planes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dtype: DType, inputs: usize, outputs: usize, groups: usize) -> Order {
        order(dtype, Channels { inputs, outputs, groups })
    }

    #[test]
    fn whole_vectors_of_channels_are_taken_as_they_are() {
        assert_eq!(of(DType::BF16, 64, 64, 1), Order::Last { channels: 64 });
        assert_eq!(of(DType::F16, 8, 24, 4), Order::Last { channels: 8 });
        assert_eq!(of(DType::F32, 4, 7, 1), Order::Last { channels: 4 });
    }

    #[test]
    fn few_channels_are_filled_up_where_that_costs_little() {
        assert_eq!(of(DType::BF16, 3, 64, 1), Order::Last { channels: 8 });
        assert_eq!(of(DType::BF16, 1, 64, 1), Order::Last { channels: 8 });
        assert_eq!(of(DType::F32, 3, 64, 1), Order::Last { channels: 4 });
        assert_eq!(of(DType::F32, 1, 64, 1), Order::Planes);
        assert_eq!(of(DType::F32, 2, 64, 1), Order::Planes);
    }

    #[test]
    fn doubles_small_groups_and_nothing_lie_in_planes() {
        assert_eq!(of(DType::F64, 64, 64, 1), Order::Planes);
        assert_eq!(of(DType::BF16, 4, 8, 32), Order::Planes);
        assert_eq!(of(DType::BF16, 8, 4, 32), Order::Planes);
        assert_eq!(of(DType::BF16, 0, 4, 1), Order::Planes);
    }
}
