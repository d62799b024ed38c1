//! What a program is told when it asks for a GPU. Runs on every machine; where there is a GPU, that is checked instead.

use gradus_kernels_cuda::{CudaError, device, devices, open};

#[test]
fn devices_are_listed_or_the_reason_is_given() {
    match devices() {
        Ok(devices) => {
            assert!(!devices.is_empty());
            for (index, device) in devices.iter().enumerate() {
                assert_eq!(device.index, index);
                assert!(!device.name.is_empty());
                assert!(device.total_memory > 0);
            }
        }
        Err(CudaError::Driver { call, .. }) => assert!(call.starts_with("cu")),
        Err(error) => assert!(error.to_string().starts_with("no CUDA device"), "{error}"),
    }
}

#[test]
fn no_machine_has_that_many_gpus() {
    match open(1_000_000) {
        Ok(context) => panic!("{context:?}"),
        Err(CudaError::NoSuchDevice { index, count }) => assert!(index == 1_000_000 && count > 0),
        Err(error) => assert_eq!(Err(error), devices()),
    }
}

#[test]
fn a_tensor_device_is_refused_with_the_reason() {
    let error = device(0).unwrap_err().to_string();
    match open(0) {
        Ok(_) => assert!(error.contains("carries no CUDA kernels"), "{error}"),
        Err(reason) => assert_eq!(error, reason.to_string()),
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod linux {
    use cust::error::CudaError as CustError;
    use gradus_kernels_cuda::{CudaError, devices, driver};

    #[test]
    fn without_a_driver_the_reason_names_its_library() {
        if driver::driver_present() {
            return;
        }
        let error = devices().unwrap_err();
        assert!(matches!(error, CudaError::NoDriver { .. }), "{error:?}");
        assert!(error.to_string().contains("libcuda.so.1"), "{error}");
        assert!(error.to_string().contains("install driver 580"), "{error}");
    }

    #[test]
    fn without_a_driver_cust_itself_answers_no_device() {
        if driver::driver_present() {
            return;
        }
        assert_eq!(cust::init(cust::CudaFlags::empty()), Err(CustError::NoDevice));
        assert_eq!(cust::device::Device::num_devices(), Err(CustError::NoDevice));
        assert_eq!(cust::memory::mem_get_info(), Err(CustError::NoDevice));
    }

    #[test]
    fn threads_may_call_a_function_for_the_first_time_together() {
        let reached = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    reached.wait();
                    let version = cust::CudaApiVersion::get();
                    assert_eq!(version.is_ok(), driver::driver_present(), "{version:?}");
                });
            }
        });
    }
}
