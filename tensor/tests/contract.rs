//! The CPU holds the contract, on every level of instructions and for any number of threads.

use gradus_tensor::cpu::{isa, threads};
use gradus_tensor::{Device, testing};

#[test]
fn the_cpu_holds_the_contract_on_every_level() {
    for &level in isa::available() {
        isa::with_isa(level, || testing::check_backend(&Device::cpu()));
    }
}

#[test]
fn the_cpu_holds_the_contract_for_any_number_of_threads() {
    for n in [1, 2, 3, 7] {
        threads::with_num_threads(n, || testing::check_backend(&Device::cpu()));
    }
}
