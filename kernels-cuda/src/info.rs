//! What a program can know of a GPU before it opens it.

use std::fmt;

/// A GPU as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The number in `cuda:0`.
    pub index: usize,
    /// The name of the product, such as `NVIDIA H200`.
    pub name: String,
    /// Major and minor: `(9, 0)` is Hopper.
    pub compute_capability: (u32, u32),
    /// In bytes.
    pub total_memory: usize,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.compute_capability;
        let gib = self.total_memory as f64 / (1u64 << 30) as f64;
        write!(f, "cuda:{}: {}, compute capability {major}.{minor}, {gib:.1} GiB", self.index, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_on_one_line() {
        let info = DeviceInfo {
            index: 1,
            name: "NVIDIA H200".into(),
            compute_capability: (9, 0),
            total_memory: 3 << 29,
        };
        assert_eq!(info.to_string(), "cuda:1: NVIDIA H200, compute capability 9.0, 1.5 GiB");
    }
}
