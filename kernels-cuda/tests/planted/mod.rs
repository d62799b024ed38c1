//! The emulated GPU with the kernels of one file, right ones and such with planted bugs, for the tests of a file.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use gradus_kernels_cuda::emulator::{self, EmulatorError};
use gradus_kernels_cuda::memory::Memory;
use gradus_kernels_cuda::module::{Argument, Launch, Module};
use gradus_kernels_cuda::{Context, CudaError, open, stream::Stream};

pub(crate) struct Gpu {
    pub(crate) context: Context,
    pub(crate) stream: Stream,
    pub(crate) module: Module,
    _turn: MutexGuard<'static, ()>,
}

impl Gpu {
    /// With the kernels of `tests/emulated/SOURCE`, the same in each test of a program; one test at a time. `None`, and a word about it,
    /// where there is no C++ compiler.
    pub(crate) fn with_kernels(source: &str) -> Option<Gpu> {
        static INSTALLED: OnceLock<bool> = OnceLock::new();
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let installed = *INSTALLED.get_or_init(|| {
            let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulated").join(source);
            match emulator::compile(&kernels, env!("CARGO_TARGET_TMPDIR").as_ref()) {
                Ok(library) => emulator::install(&library).map(|()| true).unwrap(),
                Err(error @ EmulatorError::NoCompiler { .. }) => {
                    eprintln!("skipped: {error}");
                    false
                }
                Err(error) => panic!("{error}"),
            }
        });
        installed.then(|| {
            let context = open(0).unwrap();
            // SAFETY: the emulated driver does not look at the image.
            let module = unsafe { Module::load(context, &[0]) }.unwrap();
            Gpu { context, stream: Stream::new(context).unwrap(), module, _turn: turn }
        })
    }

    pub(crate) fn upload(&self, bytes: &[u8]) -> Memory {
        let mut memory = Memory::new(self.context, bytes.len()).unwrap();
        memory.write(bytes, &self.stream).unwrap();
        memory
    }

    pub(crate) fn floats(&self, memory: &Memory) -> Vec<f32> {
        let mut bytes = vec![0; memory.len()];
        memory.read(&mut bytes, &self.stream).unwrap();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// What is wrong with a launch, or nothing.
    pub(crate) fn run(&self, name: &str, launch: Launch, arguments: &[Argument]) -> Option<String> {
        let kernel = self.module.kernel(name).unwrap();
        // SAFETY: each test passes what its kernel takes; where that is too short, the emulator must find it.
        match unsafe { kernel.launch(launch, &self.stream, arguments) } {
            Ok(()) => None,
            Err(CudaError::Driver { code: 719, .. }) => emulator::last_report(),
            Err(error) => panic!("{error}"),
        }
    }
}
