//! Untyped memory on a device: only the backend that made it looks inside.

use crate::Device;
use std::any::Any;
use std::fmt::Debug;

/// Memory of one device, shared by the tensors that view it and never changed while shared.
pub trait Storage: Any + Send + Sync + Debug {
    /// Where it lies.
    fn device(&self) -> &Device;

    /// How many bytes it holds.
    fn bytes(&self) -> usize;
}

impl dyn Storage {
    /// The backend's own type. Tensors are checked to be on one device before a backend sees them, so another type
    /// here is a bug of the library.
    pub fn downcast<T: Storage>(&self) -> &T {
        (self as &dyn Any).downcast_ref().expect("ops check the device before they ask the backend")
    }

    /// As `downcast`, to write.
    pub fn downcast_mut<T: Storage>(&mut self) -> &mut T {
        (self as &mut dyn Any).downcast_mut().expect("ops check the device before they ask the backend")
    }
}
