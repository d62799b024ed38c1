//! The contract suite on the emulated GPU: the crate's own kernels, and all of the Rust code that launches them.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;

use emulated_gpu::on_emulated_gpu;
use tensor::testing;

#[test]
fn copies() {
    on_emulated_gpu(testing::check_device);
    on_emulated_gpu(testing::check_copies);
    on_emulated_gpu(testing::check_cat);
}

#[test]
fn unary_ops() {
    on_emulated_gpu(testing::check_unary);
    on_emulated_gpu(testing::check_unary_backward);
}

#[test]
fn binary_ops() {
    on_emulated_gpu(testing::check_binary);
}

#[test]
fn comparisons() {
    on_emulated_gpu(testing::check_compare);
    on_emulated_gpu(testing::check_predicate);
    on_emulated_gpu(testing::check_select);
}

#[test]
fn reductions() {
    on_emulated_gpu(testing::check_reduce);
    on_emulated_gpu(testing::check_arg_reduce);
    on_emulated_gpu(testing::check_var_mean);
}

#[test]
fn scans() {
    on_emulated_gpu(testing::check_scan);
    on_emulated_gpu(testing::check_arg_scan);
    on_emulated_gpu(testing::check_logcumsumexp);
}

#[test]
fn sorting() {
    on_emulated_gpu(testing::check_sort);
    on_emulated_gpu(testing::check_topk);
}

#[test]
fn indexing() {
    on_emulated_gpu(testing::check_index);
}

#[test]
fn random_numbers() {
    on_emulated_gpu(testing::check_random);
}

#[test]
fn products() {
    on_emulated_gpu(testing::check_matmul);
    on_emulated_gpu(testing::check_linear);
    on_emulated_gpu(testing::check_int_mm);
}

#[test]
fn convolutions() {
    on_emulated_gpu(testing::check_conv);
}

#[test]
fn pooling() {
    on_emulated_gpu(testing::check_pool);
}

#[test]
fn clamping_and_dropout() {
    on_emulated_gpu(testing::check_clamp_and_dropout);
}

#[test]
fn softmax_and_losses() {
    on_emulated_gpu(testing::check_softmax);
    on_emulated_gpu(testing::check_cross_entropy);
}

#[test]
fn norms() {
    on_emulated_gpu(testing::check_norms);
}

#[test]
fn optimizers() {
    on_emulated_gpu(testing::check_optimizers);
}

#[test]
fn recurrent_layers() {
    on_emulated_gpu(testing::check_rnn);
    on_emulated_gpu(testing::check_rnn_bidirectional);
}
