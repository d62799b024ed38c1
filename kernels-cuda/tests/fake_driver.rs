//! The way from `open` through cust and the trampolines to a driver and back, with a fake one at the end of it.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod fake;

use gradus_kernels_cuda::memory::Memory;
use gradus_kernels_cuda::stream::Stream;
use gradus_kernels_cuda::{CudaError, CudaVersion, devices, driver, emulator, open};

#[test]
fn devices_are_described_as_the_driver_does() {
    let _turn = fake::driver();
    let devices = devices().unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].name, "Emulated GPU");
    assert_eq!(devices[0].compute_capability, (8, 0));
    assert_eq!(devices[0].total_memory, emulator::BYTES);
}

#[test]
fn opening_twice_gives_one_context() {
    let _turn = fake::driver();
    let context = open(0).unwrap();
    assert_eq!(context, open(0).unwrap());
    assert_eq!(context.info().index, 0);
    context.synchronize().unwrap();
}

#[test]
fn a_gpu_without_kernels_is_no_device_for_tensors() {
    let _turn = fake::driver();
    let error = gradus_kernels_cuda::device(0).unwrap_err().to_string();
    match gradus_kernels_cuda::built_with() {
        None => {
            let begins = "no CUDA device: this program was built without kernels for the Emulated GPU, as no nvcc was found: ";
            assert!(error.starts_with(begins), "{error}");
        }
        // The fake driver loads no module.
        Some(_) => assert!(error.starts_with("cuModuleLoadData: the CUDA driver answered 801"), "{error}"),
    }
}

#[test]
fn a_gpu_beyond_the_last_is_an_error_with_the_count() {
    let _turn = fake::driver();
    assert_eq!(open(1), Err(CudaError::NoSuchDevice { index: 1, count: 1 }));
}

#[test]
fn a_driver_without_gpus_says_so() {
    let _turn = fake::driver();
    assert_eq!(fake::failing("cuInit", 100, devices), Err(CudaError::NoDevice));
    assert_eq!(fake::with_count(0, devices), Err(CudaError::NoDevice));
}

#[test]
fn a_driver_too_old_is_told_apart() {
    let _turn = fake::driver();
    let error = fake::with_version(12_040, devices).unwrap_err();
    let found = CudaVersion { major: 12, minor: 4 };
    assert!(matches!(error, CudaError::DriverTooOld { found: is, .. } if is == found), "{error:?}");
}

#[test]
fn codes_that_cust_has_no_name_for_arrive_whole() {
    let _turn = fake::driver();
    let cases = [
        (46, "an unnamed error"),
        (912, "CUDA_ERROR_INVALID_CLUSTER_SIZE"),
        (222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
        (700, "CUDA_ERROR_ILLEGAL_ADDRESS"),
        (999, "CUDA_ERROR_UNKNOWN"),
        (0xffff_ffff, "an unnamed error"),
    ];
    for (code, name) in cases {
        let expected = CudaError::Driver { call: "cuDeviceGetName", code, name: name.to_owned() };
        assert_eq!(fake::failing("cuDeviceGetName", code, devices), Err(expected));
        let error = fake::failing("cuStreamCreate", code, || Stream::new(open(0).unwrap())).unwrap_err();
        assert_eq!(error, CudaError::Driver { call: "cuStreamCreate", code, name: name.to_owned() });
    }
}

#[test]
fn what_the_driver_lacks_is_not_supported() {
    let _turn = fake::driver();
    assert!(driver::driver_present());
    assert!(driver::symbol(c"cuInit").is_some());
    assert_eq!(driver::symbol(c"cuGreenCtxCreate"), None);
    let answer = cust::memory::mem_get_info();
    assert!(answer.is_ok(), "{answer:?}");
    // The fake has no cuCtxGetLimit.
    let limit = cust::context::CurrentContext::get_resource_limit(cust::context::ResourceLimit::StackSize);
    assert_eq!(limit, Err(cust::error::CudaError::NotSupported));
}

#[test]
fn eleven_arguments_arrive_where_they_belong() {
    unsafe extern "C" {
        fn cuLaunchKernel(
            f: u64,
            gx: u32,
            gy: u32,
            gz: u32,
            bx: u32,
            by: u32,
            bz: u32,
            smem: u32,
            s: u64,
            p: u64,
            x: u64,
        ) -> u32;
    }
    let _turn = fake::driver();
    for call in 1..=2 {
        // SAFETY: the fake driver only records the arguments; on these targets handles travel as u64 do.
        let answer = unsafe { cuLaunchKernel(call, 2, 3, 4, 5, 6, 7, 8, u64::MAX, 10, 11) };
        assert_eq!(answer, 0);
    }
    // The first call went through the resolver, the second did not.
    assert_eq!(fake::launches(), [1, 2].map(|call| [call, 2, 3, 4, 5, 6, 7, 8, u64::MAX, 10, 11]));
    // A direct function's code reaches the caller as it is.
    // SAFETY: as above.
    let answer =
        fake::failing("cuLaunchKernel", 912, || unsafe { cuLaunchKernel(1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0) });
    assert_eq!(answer, 912);
}

#[test]
fn a_float_argument_survives_the_first_call() {
    unsafe extern "C" {
        fn cuTexRefSetMipmapLevelBias(texture: u64, bias: f32) -> u32;
    }
    let _turn = fake::driver();
    // SAFETY: the fake driver only compares the arguments.
    assert_eq!([0; 2].map(|_| unsafe { cuTexRefSetMipmapLevelBias(7, 0.75) }), [0, 0]);
    // SAFETY: as above.
    assert_eq!(unsafe { cuTexRefSetMipmapLevelBias(7, 0.5) }, 1);
}

#[test]
fn a_stream_knows_whether_it_is_done() {
    let _turn = fake::driver();
    let stream = Stream::new(open(0).unwrap()).unwrap();
    assert_eq!(stream.is_done(), Ok(true));
    assert_eq!(fake::failing("cuStreamQuery", 600, || stream.is_done()), Ok(false));
    let failed = fake::failing("cuStreamQuery", 719, || stream.is_done()).unwrap_err();
    assert_eq!(failed.to_string(), "cuStreamQuery: the CUDA driver answered 719 (CUDA_ERROR_LAUNCH_FAILED)");
    stream.synchronize().unwrap();
}

#[test]
fn memory_gives_back_what_was_written_and_is_freed() {
    let _turn = fake::driver();
    let context = open(0).unwrap();
    let stream = Stream::new(context).unwrap();
    for bytes in [0, 1, 3, 255, 4096] {
        let written: Vec<u8> = (0..bytes).map(|i| (i * 7) as u8).collect();
        let mut memory = Memory::new(context, bytes).unwrap();
        assert_eq!((memory.len(), memory.is_empty()), (bytes, bytes == 0));
        memory.write(&written, &stream).unwrap();
        let mut read = vec![0; bytes];
        memory.read(&mut read, &stream).unwrap();
        assert_eq!(read, written);
        assert_eq!(emulator::allocated(), (usize::from(bytes > 0), bytes));
    }
    assert_eq!(emulator::allocated(), (0, 0));
}

#[test]
fn memory_that_does_not_fit_says_how_much_is_free() {
    let _turn = fake::driver();
    let context = open(0).unwrap();
    let _some = Memory::new(context, 4096).unwrap();
    let error = Memory::new(context, emulator::BYTES).unwrap_err();
    let free = emulator::BYTES - 4096;
    assert_eq!(
        error,
        CudaError::OutOfMemory { index: 0, requested: emulator::BYTES, free, total: emulator::BYTES }
    );
    assert_eq!(error.to_string(), "cuda:0: 1073741824 bytes do not fit: 1073737728 of 1073741824 are free");
}

#[test]
fn another_thread_needs_no_preparation() {
    let _turn = fake::driver();
    let context = open(0).unwrap();
    let stream = Stream::new(context).unwrap();
    let mut memory = Memory::new(context, 3).unwrap();
    std::thread::scope(|scope| scope.spawn(|| memory.write(&[1, 2, 3], &stream)).join().unwrap()).unwrap();
    let mut read = [0; 3];
    memory.read(&mut read, &stream).unwrap();
    assert_eq!(read, [1, 2, 3]);
    std::thread::spawn(move || drop((stream, memory))).join().unwrap();
    assert_eq!(emulator::allocated(), (0, 0));
}
