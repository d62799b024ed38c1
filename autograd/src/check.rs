//! Gradients against finite differences.

use crate::{Backward, Gradients, Var, no_grad};
use tensor::{DType, Distribution, Error, Generator, Result, Tensor};

/// How closely to compare, and how far apart the points of a difference lie.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Half the distance of the two points.
    pub eps: f64,
    /// Allowed relative difference.
    pub rtol: f64,
    /// Allowed absolute difference.
    pub atol: f64,
    /// Seed of the random directions.
    pub seed: u64,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions { eps: 1e-6, rtol: 1e-5, atol: 1e-7, seed: 0 }
    }
}

/// Compares the gradients of `f` at `inputs` (`float64`) with central differences.
///
/// For a random output direction `u` and, for each input in turn, a random direction `v`, the vector-Jacobian product
/// and the difference must give one number: `⟨u·J, v⟩ = ⟨u, (f(x + εv) - f(x - εv)) / 2ε⟩`. It takes two evaluations an
/// input, however large it is.
///
/// # Errors
/// If they differ: the message says for which input and by how much. Also if an input is not `float64` or `f` fails.
///
/// ```
/// use gradus_autograd::gradcheck;
/// use tensor::{DType, Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let x = Tensor::randn([3, 4], (DType::F64, &Device::cpu()))?;
/// gradcheck(|v| v[0].tanh()?.matmul(&v[0].t()?), &[x], &Default::default())?;
/// # Ok(()) }
/// ```
pub fn gradcheck(f: impl Fn(&[Var]) -> Result<Var>, inputs: &[Tensor], options: &CheckOptions) -> Result<()> {
    if let Some(x) = inputs.iter().find(|x| x.dtype() != DType::F64) {
        return Err(Error::dtype("gradcheck", x.dtype(), "float64, for differences to be accurate"));
    }
    let mut generator = Generator::new(options.seed);
    let mut direction = |x: &Tensor| {
        let normal = Distribution::Normal { mean: 0.0, std: 1.0 };
        Tensor::random(normal, x.shape(), (DType::F64, x.device()), &mut generator)
    };
    let leaves: Vec<Var> = inputs.iter().map(|x| Var::leaf(x.clone())).collect();
    let y = f(&leaves)?;
    let u = direction(y.value())?;
    // A result without history is one that the rules say does not depend on the inputs: differences must agree.
    let grads = match y.requires_grad() {
        true => y.backward_with(&Backward { gradient: Some(u.clone()), ..Default::default() })?,
        false => Gradients::default(),
    };
    for (i, x) in inputs.iter().enumerate() {
        let v = direction(x)?;
        let got = grads.find(&leaves[i]).map_or(Ok(0.0), |g| g.value().mul(&v)?.sum_all()?.item())?;
        let at = |sign: f64| -> Result<f64> {
            let mut moved: Vec<Var> = inputs.iter().map(Var::from).collect();
            moved[i] = x.add(&v.mul_scalar(sign * options.eps)?)?.into();
            no_grad(|| f(&moved))?.value().mul(&u)?.sum_all()?.item()
        };
        let want = (at(1.0)? - at(-1.0)?) / (2.0 * options.eps);
        let close = (got - want).abs() <= options.atol + options.rtol * want.abs();
        if !close {
            let message =
                format!("for input {i} {:?} the rules give {got}, differences give {want}", x.shape());
            return Err(Error::argument("gradcheck", message));
        }
    }
    Ok(())
}

/// As [`gradcheck`], for the gradients themselves: checks second derivatives.
pub fn gradgradcheck(
    f: impl Fn(&[Var]) -> Result<Var>,
    inputs: &[Tensor],
    options: &CheckOptions,
) -> Result<()> {
    let leaves: Vec<Var> = inputs.iter().map(Var::from).collect();
    let y = no_grad(|| f(&leaves))?;
    let mut generator = Generator::new(options.seed ^ 0x9E37_79B9_7F4A_7C15);
    let normal = Distribution::Normal { mean: 0.0, std: 1.0 };
    let u = Tensor::random(normal, y.shape(), (DType::F64, y.device()), &mut generator)?;
    let first = |at: &[Var]| {
        // Constants get leaves of their own, so that differences can be taken of the gradient.
        let at: Vec<Var> = at
            .iter()
            .map(|v| if v.requires_grad() { v.clone() } else { Var::leaf(v.value().clone()) })
            .collect();
        let create = Backward { gradient: Some(u.clone()), create_graph: true, ..Default::default() };
        let grads = crate::node::with_recording(true, || f(&at)?.backward_with(&create))?;
        let gradient = |v: &Var| match grads.find(v) {
            Some(g) => g.flatten(0),
            None => Var::from(v.value().zeros_like()?).flatten(0),
        };
        let flat = at.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        Var::cat(&flat, 0)
    };
    gradcheck(first, inputs, options)
}
