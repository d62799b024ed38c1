//! The compiled kernels that this build carries: none, if it found no nvcc.

/// The bytes of a file, aligned as the driver wants an image.
#[allow(unused_macros, reason = "a build without nvcc has no images")]
macro_rules! aligned {
    ($path:expr) => {{
        #[repr(C, align(64))]
        struct Aligned<T: ?Sized>(T);
        static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &IMAGE.0
    }};
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));
