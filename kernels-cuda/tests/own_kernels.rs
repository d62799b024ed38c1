//! Kernels of a program's own beside those of the crate, on the emulated GPU (or with nvcc on a real one): launches, and what is refused.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::path::{Path, PathBuf};

use gradus_kernels_cuda::emulator;
use gradus_kernels_cuda::own::{self, In, Kernel, Kernels, Launch, Out, empty};
use tensor::{DType, Device, ErrorKind, Layout, Result, Tensor};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/own_kernel.cu")
}

/// `None`, and a word about it, where there is no C++ compiler.
fn gpu() -> Option<Device> {
    emulator::device_for_tests(&[source()], env!("CARGO_TARGET_TMPDIR").as_ref()).unwrap()
}

type Snake = Kernel<(Out<f32>, In<f32>, f32)>;

fn snake(gpu: &Device) -> Result<Snake> {
    let kernels = Kernels::compile(gpu, &source(), env!("CARGO_TARGET_TMPDIR").as_ref())?;
    // SAFETY: the kernel has these parameters, and the slices are given the same count below.
    unsafe { kernels.get("snake") }
}

// One test: a report is that of the last launch.
#[test]
fn own_kernels_are_launched_on_tensors_that_fit_and_refused_for_others() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let cpu = Device::cpu();
    let kernel = snake(&gpu)?;
    let x = Tensor::randn([7, 41], &cpu)?.to_device(&gpu)?;
    let launch = Launch::over(x.numel(), 64);

    let mut y = empty(&x)?;
    kernel.launch(launch, (&mut y, &x, 2.0))?;
    let expected = x.add(&x.mul_scalar(2.0)?.sin()?.square()?.div_scalar(2.0)?)?;
    assert!(y.to_device(&cpu)?.all_close(&expected.to_device(&cpu)?, 1e-6, 1e-6)?);

    // Nothing to do, and no block to do it.
    let none = x.narrow(0, 0, 0)?.contiguous()?;
    kernel.launch(Launch::over(0, 64), (&mut empty(&none)?, &none, 2.0))?;

    let refused = |y: &mut Tensor, x: &Tensor| kernel.launch(launch, (y, x, 2.0)).unwrap_err();
    let error = refused(&mut y, &x.t()?);
    assert!(error.to_string().contains("argument 1 does not lie in row-major order"), "{error}");
    let error = refused(&mut y.clone(), &x);
    assert!(error.to_string().contains("argument 0 is written, and other tensors see its memory"), "{error}");
    let error = refused(&mut y, &x.to_device(&cpu)?);
    assert!(matches!(error.kind(), ErrorKind::DeviceMismatch { .. }), "{error}");
    let error = refused(&mut y, &x.to_dtype(DType::F16)?);
    assert!(matches!(error.kind(), ErrorKind::DTypeMismatch { .. }), "{error}");
    let error = kernel.launch(Launch::new(1, 2000), (&mut y, &x, 2.0)).unwrap_err();
    assert!(error.to_string().contains("cuLaunchKernel"), "{error}");
    let report = emulator::last_report();
    assert!(!emulator::installed() || report.is_some_and(|report| report.contains("1 to 1024 threads")));

    let error = empty(&Tensor::zeros([1], &cpu)?).unwrap_err();
    assert!(error.to_string().contains("the device here is cpu"), "{error}");
    let kernels = Kernels::compile(&gpu, &source(), env!("CARGO_TARGET_TMPDIR").as_ref())?;
    // SAFETY: there is no such kernel.
    let missing = unsafe { kernels.get::<(Out<f32>,)>("no_such_kernel") };
    assert!(
        missing.err().is_some_and(|error| error.to_string().contains("no kernel is called no_such_kernel"))
    );

    // What another library has allocated, here a tensor's own memory again.
    let layout = Layout::strided([41, 7], &[1, 41], 0)?;
    // SAFETY: `x` lives to the end of this test, and nobody writes to it.
    let lent = unsafe { own::lent(&gpu, own::address(&x)?, DType::F32, layout)? };
    assert_eq!(lent.to_vec::<f32>()?, x.t()?.to_vec::<f32>()?);
    // SAFETY: nothing is read, as it is refused.
    let error = unsafe { own::lent(&gpu, own::address(&x)? + 2, DType::F32, layout) }.unwrap_err();
    assert!(error.to_string().contains("not aligned"), "{error}");
    own::stream(&gpu)?.synchronize()?;
    Ok(())
}
