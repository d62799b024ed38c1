//! Kernels with their parameters' types, one function for each signature: the only place of this crate that launches.
//!
//! Addresses are [`Pointer`]s, which the backend makes of tensors and blocks that it holds until the launch is in the queue. All work
//! of a GPU is in one queue, so memory that is given back later is not used again before a kernel is done with it.

use crate::CudaError;
use crate::backend::conv::depthwise::Depthwise;
use crate::backend::conv::hopper::{Images, Weight};
use crate::backend::gemm::epilogue::Epilogue;
use crate::backend::gemm::hopper::Mapped;
use crate::backend::gemm::product::{Gathered, Output, Product, Strided};
use crate::backend::gemm::small::Small;
use crate::backend::norm::Affine;
use crate::backend::optim::Table;
use crate::backend::rnn::{BackwardOperands, Directions, ForwardOperands, Sequence};
use crate::backend::walk::{Divisor, Walk};
use crate::backend::windows::Windows;
use crate::gpu::Gpu;
use crate::module::{Argument, Launch, Parameter};
use crate::tensor_map::TensorMap;

/// Where a kernel's operand begins in the GPU's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Pointer(pub(crate) u64);

// SAFETY: a number of 64 bits, as a pointer is on the GPU.
unsafe impl Parameter for Pointer {}
// SAFETY: `Walk` of cuda/walk.h has these members in this order, and none of them needs padding.
unsafe impl<const N: usize> Parameter for Walk<N> {}
// SAFETY: `Divisor` of cuda/walk.h has these members in this order: numbers of 32 bits all.
unsafe impl Parameter for Divisor {}
// SAFETY: `Groups` of cuda/index.cu has these members in this order: numbers of 64 bits all.
unsafe impl Parameter for Groups {}
// SAFETY: `Sequence` of cuda/rnn/share.h has these members in this order: numbers of 32 bits all.
unsafe impl Parameter for Sequence {}
// SAFETY: `Directions` of cuda/rnn/share.h has these members, `Forward` of cuda/rnn_sequence.cu, in this order: numbers of 64 bits all.
unsafe impl Parameter for Directions<ForwardOperands> {}
// SAFETY: as above, with `Backward` of cuda/rnn_sequence_backward.cu.
unsafe impl Parameter for Directions<BackwardOperands> {}
// SAFETY: `Table` of cuda/optim.cu has these members in this order, and none of them needs padding.
unsafe impl Parameter for Table {}
// SAFETY: `Affine` of cuda/norm.cu has these members in this order: numbers of 32 bits all.
unsafe impl Parameter for Affine {}
// SAFETY: `Numbers` of cuda/graph.cu has this member.
unsafe impl Parameter for Numbers {}
// SAFETY: `Depthwise` of cuda/depthwise.cu has these members in this order: numbers of 32 bits in an even count, then numbers of 64.
unsafe impl Parameter for Depthwise {}
// SAFETY: `Windows` of cuda/windows.h has these members in this order: numbers of 32 bits all.
unsafe impl Parameter for Windows {}

impl Pointer {
    /// No operand: what a kernel does not look at.
    pub(crate) const NONE: Pointer = Pointer(0);
}

// SAFETY: `Product` of cuda/gemm/product.h has these members in this order, and none of them needs padding: numbers of 32 bits come in
// even counts before numbers of 64.
unsafe impl<A: Parameter, B: Parameter> Parameter for Product<A, B> {}
// SAFETY: `Epilogue` of cuda/gemm/epilogue.h, as above.
unsafe impl Parameter for Epilogue {}
// SAFETY: `Output` of cuda/gemm/product.h, as above.
unsafe impl Parameter for Output {}
// SAFETY: `Strided` of cuda/gemm/operand.h, as above.
unsafe impl Parameter for Strided {}
// SAFETY: `Mapped` of cuda/hopper/ring.h, as above.
unsafe impl Parameter for Mapped {}
// SAFETY: `Images` of cuda/hopper/images.h, as above: 30 numbers of 32 bits.
unsafe impl Parameter for Images {}
// SAFETY: `Weight` of cuda/hopper/images.h, as above: 16 numbers of 32 bits.
unsafe impl Parameter for Weight {}
// SAFETY: `Small` of cuda/gemm/small.h, as above.
unsafe impl Parameter for Small {}
// SAFETY: `Gathered` of cuda/gemm/operand.h, as above.
unsafe impl Parameter for Gathered {}

/// Numbers of 64 bits: `Numbers` of `cuda/graph.cu`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Numbers(pub(crate) [u64; Numbers::MOST]);

impl Numbers {
    /// How many there are.
    pub(crate) const MOST: usize = 32;
}

/// Sorted indices of lines and what they are of: `Groups` of `cuda/index.cu`. Strides are those along the dim.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Groups {
    /// Indices of a line.
    pub(crate) n: i64,
    /// What they are below.
    pub(crate) size: i64,
    pub(crate) y_stride: i64,
    pub(crate) sorted_stride: i64,
    pub(crate) order_stride: i64,
    pub(crate) src_stride: i64,
}

/// Puts a kernel into the GPU's queue.
fn submit(gpu: &Gpu, kernel: &str, launch: Launch, arguments: &[Argument]) -> Result<(), CudaError> {
    let kernel = gpu.kernel(kernel)?;
    // SAFETY: the functions below pass the parameters that their kernels have, and the backend computes walks that stay in the
    // memory of their operands, which the queue keeps from being used again too early.
    unsafe { kernel.launch(launch, gpu.queue(), arguments) }
}

macro_rules! launchers {
    ($( $(#[$doc:meta])+ $name:ident($($argument:ident: $T:ty),* $(,)?); )+) => { $(
        $(#[$doc])+
        pub(crate) fn $name(gpu: &Gpu, kernel: &str, launch: Launch, $($argument: $T),*) -> Result<(), CudaError> {
            submit(gpu, kernel, launch, &[$(Argument::from(&$argument)),*])
        }
    )+ };
}

launchers! {
    /// `map0` of cuda/map.h with a constant of each size: `fill_SIZE`.
    fill_u8(walk: Walk<1>, y: Pointer, value: u8);
    /// As [`fill_u8`].
    fill_u16(walk: Walk<1>, y: Pointer, value: u16);
    /// As [`fill_u8`].
    fill_u32(walk: Walk<1>, y: Pointer, value: u32);
    /// As [`fill_u8`].
    fill_u64(walk: Walk<1>, y: Pointer, value: u64);
    /// `map1` of cuda/map.h: `unary_…`, `predicate_…`, `copy_…`, `cast_…`.
    map1(walk: Walk<2>, y: Pointer, a: Pointer);
    /// `map2` of cuda/map.h: `binary_…`, `gradient_…`, `compare_…`.
    map2(walk: Walk<3>, y: Pointer, a: Pointer, b: Pointer);
    /// `map3` of cuda/map.h: `select_…`.
    map3(walk: Walk<4>, y: Pointer, a: Pointer, b: Pointer, c: Pointer);
    /// `clamp_T` of cuda/clamp.cu: bounds as the bits of an element.
    clamp(walk: Walk<2>, bounds: u32, low: u64, high: u64, y: Pointer, x: Pointer);
    /// `clamp_backward_T`, likewise.
    clamp_backward(walk: Walk<3>, bounds: u32, low: u64, high: u64, dx: Pointer, g: Pointer, x: Pointer);
    /// `range_T`: in integers if `whole` is not 0, else in doubles.
    range(n: u32, y: Pointer, whole: u32, a: i64, b: i64, start: f64, step: f64);
    /// `transpose_SIZE`.
    transpose(
        matrices: Walk<2>, rows: u32, columns: u32, y_stride: i64, x_stride: i64, y: Pointer, x: Pointer,
    );
    /// `reduce_OP_X_Y` of cuda/reduce.cu.
    reduce(outputs: Walk<1>, reduced: Walk<1>, chunk: u32, log_size: u32, y: Pointer, x: Pointer);
    /// `argmax_T` and `argmin_T` of cuda/reduce.cu.
    search(lines: Walk<1>, n: u32, stride: i64, log_size: u32, y: Pointer, x: Pointer);
    /// `scan_…_OP_T` of cuda/scan.cu.
    scan(lines: Walk<2>, n: u32, y_stride: i64, x_stride: i64, y: Pointer, x: Pointer);
    /// `scan_ends_OP_T` of cuda/scan.cu.
    scan_ends(lines: Walk<2>, n: u32, chunk: u32, x_stride: i64, ends: Pointer, x: Pointer);
    /// `scan_pieces_OP_T` of cuda/scan.cu.
    scan_pieces(
        lines: Walk<2>, n: u32, chunk: u32, y_stride: i64, x_stride: i64, y: Pointer, x: Pointer, ends: Pointer,
    );
    /// `softmax_T`.
    softmax(
        lines: Walk<2>, n: u32, y_stride: i64, x_stride: i64, log_size: u32, logarithm: u32, y: Pointer, x: Pointer,
    );
    /// `softmax_backward_T`.
    softmax_backward(
        lines: Walk<3>, n: u32, dx_stride: i64, g_stride: i64, y_stride: i64, log_size: u32, logarithm: u32, dx: Pointer,
        g: Pointer, y: Pointer,
    );
    /// `cross_entropy_T`.
    cross_entropy(
        lines: Walk<2>, n: u32, x_stride: i64, log_size: u32, ignore: i64, smoothing: f64, options: u32, losses: Pointer,
        factors: Pointer, x: Pointer, target: Pointer, weight: Pointer, bad: Pointer,
    );
    /// `cross_entropy_gradient_T`.
    cross_entropy_gradient(
        lines: Walk<3>, n: u32, dx_stride: i64, x_stride: i64, log_size: u32, ignore: i64, smoothing: f64, options: u32,
        dx: Pointer, x: Pointer, target: Pointer, weight: Pointer, sum: Pointer,
    );
    /// `sort_tiles_T` of cuda/sort.cu.
    sort_tiles(
        per_line: Divisor, lines: u32, n: u32, size: u32, keep: u32, descending: u32, values: Pointer, indices: Pointer, x: Pointer,
    );
    /// `sort_pairs_T`.
    sort_pairs(
        per_line: Divisor, lines: u32, n: u32, size: u32, keep: u32, descending: u32, keys: Pointer, places: Pointer, x: Pointer,
    );
    /// `sort_again_KEY`.
    sort_again(
        per_line: Divisor, lines: u32, n: u32, size: u32, keep: u32, keys: Pointer, places: Pointer, old_keys: Pointer,
        old_places: Pointer,
    );
    /// `sort_merge_KEY`.
    sort_merge(
        per_line: Divisor, n: u32, run: u32, keys: Pointer, places: Pointer, old_keys: Pointer, old_places: Pointer,
    );
    /// `sort_pick_T`.
    sort_pick(
        per_line: Divisor, count: u32, n: i64, pairs: i64, values: Pointer, indices: Pointer, places: Pointer, x: Pointer,
    );
    /// `gather_SIZE`.
    gather(walk: Walk<3>, size: i64, stride: i64, y: Pointer, index: Pointer, x: Pointer, bad: Pointer);
    /// `scatter_set_SIZE` and `scatter_add_T`.
    scatter(
        lines: Walk<3>, n: u32, size: i64, y_stride: i64, index_stride: i64, src_stride: i64, y: Pointer, index: Pointer,
        src: Pointer, bad: Pointer,
    );
    /// `group_set_SIZE` and `group_add_T`.
    group(
        walk: Walk<5>, groups: Groups, rounds: u32, y: Pointer, sorted: Pointer, order: Pointer, src: Pointer, bad: Pointer,
    );
    /// `nonzero_count_T` of cuda/nonzero.cu.
    nonzero_count(walk: Walk<1>, y: Pointer, x: Pointer);
    /// `nonzero_ends`.
    nonzero_ends(n: u32, counts: Pointer);
    /// `nonzero_places_T`.
    nonzero_places(walk: Walk<1>, shape: Walk<1>, y: Pointer, ends: Pointer, x: Pointer);
    /// `random_T`. `begin` may lead to the offset.
    random(n: u32, distribution: u32, a: f64, b: f64, seed: u64, offset: u64, begin: Pointer, y: Pointer);
    /// `random_integers_T`, likewise.
    random_integers(n: u32, low: i64, range: u64, seed: u64, offset: u64, begin: Pointer, y: Pointer);
    /// `dropout_T` of cuda/dropout.cu: `limit` of 2⁵³ are kept, `factor` as the bits of an element.
    dropout(
        n: u32, vector: u32, limit: u64, factor: u64, seed: u64, offset: u64, begin: Pointer, y: Pointer, kept: Pointer, x: Pointer,
    );
    /// `dropout_backward_T`.
    dropout_backward(walk: Walk<3>, factor: u64, dx: Pointer, g: Pointer, kept: Pointer);
    /// `set_numbers` of cuda/graph.cu.
    set_numbers(numbers: Numbers, count: u32, y: Pointer);
    /// `sgd_T` of cuda/optim.cu. `clip` may lead to a factor.
    sgd(table: Table, clip: Pointer, lr: f64, decay: f64, scale: f64);
    /// `momentum_T`, likewise.
    momentum(
        table: Table, clip: Pointer, lr: f64, decay: f64, scale: f64, momentum: f64, share: f64, first: u32, nesterov: u32,
    );
    /// `adam_T`, likewise. `corrections` may lead to `root` and `rate`.
    adam(
        table: Table, clip: Pointer, scale: f64, decay: f64, shrunk: f64, beta1: f64, beta2: f64, root: f64, eps: f64, rate: f64,
        corrections: Pointer,
    );
    /// `squares_T` of cuda/optim.cu.
    squares(table: Table, sums: Pointer);
    /// `norms_T` of cuda/optim.cu.
    norms(table: Table, norms: Pointer, sums: Pointer);
    /// `layer_norm_T` and `layer_norm_v_T` of cuda/norm.cu; without `means` those of RMS norm, as the next two.
    layer_norm(
        lines: u32, n: u32, log_size: u32, affine: Affine, eps: f64, y: Pointer, means: Pointer, rstds: Pointer, x: Pointer,
        w: Pointer, b: Pointer,
    );
    /// `layer_norm_backward_T` and `layer_norm_backward_v_T`.
    layer_norm_backward(
        lines: u32, n: u32, log_size: u32, affine: Affine, dx: Pointer, g: Pointer, x: Pointer, means: Pointer, rstds: Pointer,
        w: Pointer,
    );
    /// `layer_norm_weights_T`. `db` may be absent.
    layer_norm_weights(
        lines: u32, n: u32, chunk: u32, dw: Pointer, db: Pointer, g: Pointer, x: Pointer, means: Pointer, rstds: Pointer,
    );
    /// `moments_X_Y` of cuda/moments.cu.
    moments(
        outputs: Walk<1>, reduced: Walk<1>, chunk: u32, log_size: u32, divisor: f64, means: Pointer, variances: Pointer, x: Pointer,
    );
    /// `join_moments_T`. `rstds` may be absent.
    join_moments(
        outputs: u32, pieces: u32, count: u32, chunk: u32, divisor: f64, eps: f64, means: Pointer, variances: Pointer,
        rstds: Pointer, of_pieces: Pointer, squares: Pointer,
    );
    /// `column_moments_T`.
    column_moments(
        rows: u32, channels: u32, chunk: u32, log_across: u32, means: Pointer, squares: Pointer, x: Pointer,
    );
    /// `column_gradients_T`.
    column_gradients(
        rows: u32, channels: u32, chunk: u32, log_across: u32, dw: Pointer, db: Pointer, g: Pointer, x: Pointer,
        means: Pointer, rstds: Pointer,
    );
    /// `batch_norm_T` and `batch_norm_v_T`.
    batch_norm(
        count: u32, places: Divisor, channels: Divisor, affine: u32, y: Pointer, x: Pointer, means: Pointer, rstds: Pointer,
        w: Pointer, b: Pointer,
    );
    /// `channel_gradients_T`.
    channel_gradients(
        places: Divisor, channels: u32, count: u32, chunk: u32, log_size: u32, sharing: Divisor, dw: Pointer, db: Pointer,
        g: Pointer, x: Pointer, means: Pointer, rstds: Pointer,
    );
    /// `batch_norm_backward_T` and `batch_norm_backward_v_T`.
    batch_norm_backward(
        count: u32, places: Divisor, channels: Divisor, affine: u32, training: u32, scale: f64, dx: Pointer, g: Pointer,
        x: Pointer, means: Pointer, rstds: Pointer, w: Pointer, dw: Pointer, db: Pointer,
    );
    /// `max_pool_T` of cuda/pool.cu; this and the next but one have twins in vectors, `max_pool_v_T`.
    max_pool(windows: Windows, count: u32, form: u32, y: Pointer, index: Pointer, code: Pointer, x: Pointer);
    /// `max_pool_index`.
    max_pool_index(windows: Windows, count: u32, index: Pointer, code: Pointer);
    /// `max_pool_backward_T`.
    max_pool_backward(windows: Windows, count: u32, form: u32, dx: Pointer, g: Pointer, index: Pointer, code: Pointer);
    /// `avg_pool_T` and `avg_pool_backward_T`, and in vectors `avg_pool_v_T` and `avg_pool_backward_v_T`.
    avg_pool(windows: Windows, count: u32, padded: u32, fixed: f64, y: Pointer, x: Pointer);
    /// `adaptive_max_pool_T`.
    adaptive_max_pool(windows: Windows, count: u32, y: Pointer, index: Pointer, x: Pointer);
    /// `adaptive_avg_pool_T`.
    adaptive_avg_pool(windows: Windows, count: u32, y: Pointer, x: Pointer);
    /// `adaptive_avg_pool_backward_T`.
    adaptive_avg_pool_backward(windows: Windows, across: Windows, count: u32, dx: Pointer, g: Pointer);
    /// `gemm_T_TILE_LAYOUT` of cuda/gemm.cu.
    gemm(p: Product<Strided, Strided>, y: Pointer, partial: Pointer, a: Pointer, b: Pointer, bias: Pointer);
    /// `hopper_T_TILE_CLUSTER_LAYOUT` of cuda/hopper/gemm.h.
    hopper(
        p: Product<Mapped, Mapped>, a: TensorMap, b: TensorMap, out: TensorMap, count: u32, by_tma: u32, y: Pointer,
        partial: Pointer, bias: Pointer,
    );
    /// `hopper_f32_6xbf16_TILE_CLUSTER_LAYOUT` of cuda/hopper_6xbf16.cu, which does nothing unless `strange` leads to 0.
    hopper_parts(
        p: Product<Mapped, Mapped>, a: TensorMap, b: TensorMap, out: TensorMap, count: u32, by_tma: u32, y: Pointer,
        partial: Pointer, bias: Pointer, strange: Pointer,
    );
    /// `split_f32` of cuda/split.cu.
    split(
        rows: Walk<1>, count: u32, runs: Divisor, columns: u32, stride: i64, vector: u32, plane: i64, y: Pointer, strange: Pointer,
        x: Pointer,
    );
    /// `gemm_f32_6xbf16_TILE_LAYOUT` of cuda/gemm_tf32.cu, which does nothing if `strange` leads to 0.
    gemm_parts(
        p: Product<Strided, Strided>, y: Pointer, partial: Pointer, a: Pointer, b: Pointer, bias: Pointer, strange: Pointer,
    );
    /// `hopper_conv_T_TILE_CLUSTER_places` and `…_back` of cuda/hopper/images.h.
    hopper_places(
        p: Product<Images, Weight>, a: TensorMap, b: TensorMap, out: TensorMap, count: u32, by_tma: u32, y: Pointer,
        partial: Pointer, bias: Pointer,
    );
    /// `hopper_conv_T_TILE_CLUSTER_taps` of cuda/hopper/images.h.
    hopper_taps(
        p: Product<Mapped, Images>, a: TensorMap, b: TensorMap, out: TensorMap, count: u32, by_tma: u32, y: Pointer,
        partial: Pointer, bias: Pointer,
    );
    /// `hopper_conv_T_TILE_CLUSTER_turned` of cuda/hopper/images.h.
    hopper_turned(
        p: Product<Images, Mapped>, a: TensorMap, b: TensorMap, out: TensorMap, count: u32, by_tma: u32, y: Pointer,
        partial: Pointer, bias: Pointer,
    );
    /// `gemm_small_T` of cuda/gemm_small.cu.
    gemm_small(p: Small, y: Pointer, a: Pointer, b: Pointer, bias: Pointer);
    /// `gemm_naive_T` of cuda/gemm_naive.cu.
    gemm_naive(p: Product<Strided, Strided>, count: u32, y: Pointer, a: Pointer, b: Pointer, bias: Pointer);
    /// `conv_T_TILE_FORM` of cuda/conv.cu, and `conv_T_TILE_last_taps` of cuda/conv_last.cu.
    conv(p: Product<Strided, Gathered>, y: Pointer, partial: Pointer, a: Pointer, b: Pointer, bias: Pointer);
    /// `conv_T_TILE_last_FORM` of cuda/conv_last.cu, but for taps.
    conv_last(p: Product<Gathered, Strided>, y: Pointer, partial: Pointer, a: Pointer, b: Pointer, bias: Pointer);
    /// `channels_last_SIZE` of cuda/channels.cu.
    channels_last(
        places: Walk<1>, count: u32, given: u32, channels: u32, stride: i64, y: Pointer, x: Pointer,
    );
    /// `depthwise_ORDER_WINDOW_T` of cuda/depthwise.cu.
    depthwise(d: Depthwise, y: Pointer, x: Pointer, w: Pointer, with_bias: u32, bias: Pointer, epilogue: Epilogue);
    /// `depthwise_grad_input_ORDER_T`.
    depthwise_grad_input(d: Depthwise, dx: Pointer, g: Pointer, w: Pointer);
    /// `depthwise_grad_weight_TAPS_T`.
    depthwise_grad_weight(d: Depthwise, chunk: u32, log_across: u32, dw: Pointer, g: Pointer, x: Pointer);
    /// `conv_naive_T` of cuda/conv.cu.
    conv_naive(p: Product<Strided, Gathered>, count: u32, y: Pointer, a: Pointer, b: Pointer, bias: Pointer);
    /// `sum_parts_T` of cuda/gemm.cu.
    sum_parts(out: Output, count: u32, parts: u32, y: Pointer, partial: Pointer, bias: Pointer);
    /// `rnn_forward_KIND_T` of cuda/rnn.cu.
    rnn_forward(
        rows: u32, hidden: u32, keeps: u32, h: Pointer, c: Pointer, kept: Pointer, a: Pointer, b: Pointer, h_before: Pointer,
    );
    /// `rnn_sequence_KIND_T` of cuda/rnn_sequence.cu.
    rnn_sequence(sequence: Sequence, directions: Directions<ForwardOperands>);
    /// `rnn_sequence_backward_KIND_T` of cuda/rnn_sequence_backward.cu.
    rnn_sequence_backward(sequence: Sequence, directions: Directions<BackwardOperands>);
    /// `rnn_backward_KIND_T` of cuda/rnn.cu.
    rnn_backward(
        rows: u32, hidden: u32, has: u32, c_stride: i64, da: Pointer, db: Pointer, dh: Pointer, dc: Pointer, kept: Pointer,
        output: Pointer, h_before: Pointer, c_before: Pointer, product: Pointer, grad: Pointer,
    );
}
