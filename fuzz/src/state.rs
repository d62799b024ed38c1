//! State files: arbitrary bytes, and valid files with bits flipped.

use nn::state::{load_from_bytes, load_tensors_from_bytes, save_to_bytes};
use nn::{BatchNorm1d, Forward, Init, Linear, LoadOptions, Module, Sequential};
use tensor::Device;

/// Loads bytes as a state file. If the first byte is odd, the others are positions of bits to flip in a valid file,
/// two bytes each; else they are the file.
///
/// Any bytes load or give an error. A load that fails leaves the model as it was; one that succeeds, does so again with
/// what is then saved.
pub fn state_file(bytes: &[u8]) {
    let Some((&mode, rest)) = bytes.split_first() else { return };
    match mode % 2 {
        1 => check(&flipped(rest), mode),
        _ => check(rest, mode),
    }
}

/// A linear layer and a normalisation: parameters and buffers, floats and integers.
fn model(seed: u64) -> impl Forward {
    let mut init = Init::new(seed);
    let linear = Linear::new(3, 2, &mut init).expect("a small layer");
    Sequential::new().add(linear).add(BatchNorm1d::new(2, &mut init).expect("a small layer"))
}

fn saved(model: &impl Module) -> Vec<u8> {
    save_to_bytes(model).expect("a model can be saved")
}

fn flipped(positions: &[u8]) -> Vec<u8> {
    let mut file = saved(&model(1));
    for position in positions.chunks_exact(2) {
        let bit = u16::from_le_bytes([position[0], position[1]]) as usize % (8 * file.len());
        file[bit / 8] ^= 1 << (bit % 8);
    }
    file
}

fn check(file: &[u8], mode: u8) {
    let _ = load_tensors_from_bytes(file, &Device::cpu());
    let options = LoadOptions { strict: mode & 2 == 0, cast: mode & 4 != 0, rename: None };
    let model = model(2);
    let before = saved(&model);
    match load_from_bytes(&model, file, &options) {
        Ok(_) => {
            let after = saved(&model);
            load_from_bytes(&model, &after, &LoadOptions::default()).expect("what was saved loads");
            assert!(saved(&model) == after, "saving what was loaded changed it");
        }
        Err(error) => {
            assert!(saved(&model) == before, "a failed load changed the model: {error}");
        }
    }
}
