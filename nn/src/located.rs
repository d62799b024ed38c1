//! Says where in a model an error arose.

use crate::Param;
use tensor::Result;

/// Results that know which layer they are of.
pub(crate) trait Located {
    /// Adds the path of the layer that holds `param`; before any visit has told it, the layer's kind and weight shape.
    fn located(self, param: &Param, kind: &str) -> Self;
}

impl<T> Located for Result<T> {
    fn located(self, param: &Param, kind: &str) -> Result<T> {
        self.map_err(|error| {
            let place = match param.module() {
                Some(path) => path.to_string(),
                None => format!("a {kind} with weight {}", param.shape()),
            };
            error.at(place)
        })
    }
}
