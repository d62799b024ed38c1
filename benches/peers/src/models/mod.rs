//! The networks of the training rows, once per Rust library; PyTorch's stand in `torch_child.py`.

pub(crate) mod burn;
pub(crate) mod candle;
pub(crate) mod gradus;

/// A chain of convolutions, each with ReLU, then linear layers with ReLU between them.
#[derive(Clone, Copy)]
pub(crate) struct Plain {
    /// Input channels, output channels, kernel, padding, and whether a 2×2 max-pooling follows.
    pub(crate) convs: &'static [(usize, usize, usize, usize, bool)],
    /// Widths, from the flattened images to the classes.
    pub(crate) widths: &'static [usize],
}

/// LeNet-5 with ReLU and max-pooling.
pub(crate) const LENET: Plain =
    Plain { convs: &[(1, 6, 5, 2, true), (6, 16, 5, 0, true)], widths: &[400, 120, 84, 10] };
/// PyTorch's MNIST example without dropout.
pub(crate) const MNIST: Plain =
    Plain { convs: &[(1, 32, 3, 0, false), (32, 64, 3, 0, true)], widths: &[9216, 128, 10] };
/// Three linear layers.
pub(crate) const MLP: Plain = Plain { convs: &[], widths: &[784, 256, 256, 10] };

/// Input channels, output channels and stride of each block of ResNet-18.
pub(crate) const BLOCKS: [(usize, usize, usize); 8] = [
    (64, 64, 1),
    (64, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 512, 2),
    (512, 512, 1),
];

/// Characters, and the width of their embedding.
pub(crate) const VOCAB: usize = 65;
pub(crate) const EMBED: usize = 128;
