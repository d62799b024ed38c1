//! Reads groups of recorded cases: `<group>.json` beside `<group>.safetensors`. `tests/fixtures/README.md` has the format.

use crate::array::{Array, Values};
use crate::generate::{Generated, Kind};
use crate::judge::{Precision, Rule};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::Path;

/// The cases of one file.
pub(crate) struct Group {
    pub(crate) cases: Vec<Case>,
    f32: [f64; 2],
    f64: [f64; 2],
}

/// One op applied to recorded inputs, and what comes of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) args: Args,
    pub(crate) inputs: Vec<Input>,
    pub(crate) expect: Expect,
    /// By precision: how much to widen the tolerance, or not to compare.
    k: [Option<f64>; 2],
    bits: bool,
}

/// What a case expects of the library.
pub(crate) enum Expect {
    /// These outputs, and the gradients named by the inputs.
    Values(Vec<Output>),
    /// An error.
    Error,
    /// Statistical properties; there are no tensors.
    Stats,
}

/// An input of the op, before its views.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) base: Array,
    pub(crate) views: Vec<View>,
    /// The recorded gradient with respect to `base`.
    pub(crate) grad: Option<Reference>,
}

/// A view applied to an input before the op.
pub(crate) struct View {
    pub(crate) op: String,
    pub(crate) args: Args,
}

/// A recorded output.
pub(crate) struct Output {
    pub(crate) shape: Vec<usize>,
    pub(crate) reference: Reference,
    /// The vector of the vector-Jacobian product, on differentiable outputs.
    pub(crate) cotangent: Option<Generated>,
}

/// A recorded tensor, whole or sampled.
pub(crate) enum Reference {
    Full(Array),
    Digest(Digest),
}

/// A sample of a big tensor and its sums.
pub(crate) struct Digest {
    pub(crate) seed: u64,
    pub(crate) sample: Array,
    pub(crate) sum: f64,
    pub(crate) abs_sum: f64,
    pub(crate) abs_max: f64,
}

/// The arguments of an op. A missing or mistyped one is an error of the record: it panics with its name.
#[derive(Clone, Debug)]
pub(crate) struct Args(pub(crate) Value);

impl Args {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn f64(&self, key: &str) -> f64 {
        self.opt_f64(key).unwrap_or_else(|| panic!("argument {key} of {} is no number", self.0))
    }

    pub(crate) fn opt_f64(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(number)
    }

    pub(crate) fn int(&self, key: &str) -> i64 {
        self.get(key)
            .and_then(Value::as_i64)
            .unwrap_or_else(|| panic!("argument {key} of {} is no integer", self.0))
    }

    pub(crate) fn opt_int(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(Value::as_i64)
    }

    pub(crate) fn bool(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn str(&self, key: &str) -> &str {
        self.get(key)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("argument {key} of {} is no text", self.0))
    }

    /// A list of integers; a single one is a list of one.
    pub(crate) fn ints(&self, key: &str) -> Vec<i64> {
        self.opt_ints(key).unwrap_or_else(|| panic!("argument {key} of {} is no list of integers", self.0))
    }

    pub(crate) fn opt_ints(&self, key: &str) -> Option<Vec<i64>> {
        match self.get(key)? {
            Value::Array(list) => list.iter().map(Value::as_i64).collect(),
            one => Some(vec![one.as_i64()?]),
        }
    }

    /// A list of numbers.
    pub(crate) fn list_of_f64(&self, key: &str) -> Option<Vec<f64>> {
        self.get(key)?.as_array()?.iter().map(number).collect()
    }

    /// The arguments nested under `key`.
    pub(crate) fn nested(&self, key: &str) -> Args {
        Args(self.0.get(key).cloned().unwrap_or(Value::Null))
    }

    /// The list of objects under `key`.
    pub(crate) fn list(&self, key: &str) -> Vec<Args> {
        self.0[key].as_array().into_iter().flatten().cloned().map(Args).collect()
    }

    /// The list of names under `key`.
    pub(crate) fn names(&self, key: &str) -> Vec<String> {
        self.0[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// A number, or one of the strings that stand for the numbers JSON lacks.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| match value.as_str()? {
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        _ => None,
    })
}

impl Group {
    /// Reads `json` and the safetensors file beside it. A file that does not follow the format panics.
    pub(crate) fn read(json: &Path) -> Group {
        let text = std::fs::read(json).unwrap_or_else(|e| panic!("{}: {e}", json.display()));
        let bytes = std::fs::read(json.with_extension("safetensors"))
            .unwrap_or_else(|e| panic!("{}: {e}", json.display()));
        let document: Value =
            serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", json.display()));
        let tensors = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", json.display()));
        assert_eq!(document["format"], 1, "{}: another format", json.display());
        let tolerance = |p: &str| {
            let t = &document["tolerance"][p];
            ["rtol", "atol_rel_max"].map(|key| t[key].as_f64().expect("tolerances are numbers"))
        };
        let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
        Group {
            cases: list(&document["cases"])
                .iter()
                .map(|case| Reader { tensors: &tensors }.case(case))
                .collect(),
            f32: tolerance("f32"),
            f64: tolerance("f64"),
        }
    }

    /// Every group of a folder, by name.
    pub(crate) fn read_all(folder: &Path) -> Vec<Group> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut files: Vec<_> = entries.map(|e| e.expect("a readable folder").path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "json"));
        files.sort();
        files.iter().map(|path| Group::read(path)).collect()
    }

    /// How `case` is compared in this precision; `None` if it is not.
    pub(crate) fn rule(&self, case: &Case, precision: Precision) -> Option<Rule> {
        let ([rtol, atol], k) = match precision {
            Precision::F32 => (self.f32, case.k[0]),
            Precision::F64 => (self.f64, case.k[1]),
        };
        let doubles = case.inputs.iter().any(|i| matches!(i.base.values, Values::F64(_)));
        (precision == Precision::F64 || !doubles).then_some(())?;
        Some(Rule { precision, rtol, atol, k: k?, bits: case.bits })
    }
}

/// Reads cases whose tensors are in one safetensors file.
struct Reader<'a> {
    tensors: &'a SafeTensors<'a>,
}

impl Reader<'_> {
    fn case(&self, v: &Value) -> Case {
        let objects = |key: &str| v[key].as_array().cloned().unwrap_or_default();
        let expect = match v.get("expect").and_then(Value::as_str) {
            None => Expect::Values(objects("outputs").iter().map(|o| self.output(o)).collect()),
            Some("error") => Expect::Error,
            Some("stats") => Expect::Stats,
            Some(other) => panic!("unknown expectation {other}"),
        };
        let k = |precision: &str, absent: Option<f64>| v.get("k").map_or(absent, |k| k[precision].as_f64());
        Case {
            name: text(&v["name"]),
            op: text(&v["op"]),
            args: Args(v["args"].clone()),
            inputs: objects("inputs").iter().map(|i| self.input(i)).collect(),
            expect,
            k: [k("f32", Some(1.0)), k("f64", Some(1.0))],
            bits: v["cmp"] == "bits",
        }
    }

    fn input(&self, v: &Value) -> Input {
        let views = v["views"].as_array().cloned().unwrap_or_default();
        Input {
            name: text(&v["name"]),
            base: v.get("gen").map_or_else(|| self.tensor(&v["tensor"]), |g| generated(g).array()),
            views: views.iter().map(|w| View { op: text(&w["op"]), args: Args(w["args"].clone()) }).collect(),
            grad: v.get("grad").map(|g| self.reference(g)),
        }
    }

    fn output(&self, v: &Value) -> Output {
        let shape = dims(&v["shape"]);
        Output { shape, reference: self.reference(v), cotangent: v.get("cotangent").map(generated) }
    }

    fn reference(&self, v: &Value) -> Reference {
        let Some(d) = v.get("digest") else { return Reference::Full(self.tensor(&v["tensor"])) };
        let number = |key: &str| d[key].as_f64().unwrap_or_else(|| panic!("digest without {key}"));
        Reference::Digest(Digest {
            seed: d["seed"].as_u64().expect("a digest has a seed"),
            sample: self.tensor(&d["tensor"]),
            sum: number("sum"),
            abs_sum: number("abs_sum"),
            abs_max: number("abs_max"),
        })
    }

    fn tensor(&self, name: &Value) -> Array {
        let name = text(name);
        let view = self.tensors.tensor(&name).unwrap_or_else(|e| panic!("tensor {name}: {e}"));
        let bytes = view.data();
        macro_rules! read {
            ($t:ty) => {
                bytes
                    .chunks_exact(size_of::<$t>())
                    .map(|b| <$t>::from_le_bytes(b.try_into().expect("whole chunks")))
                    .collect()
            };
        }
        let values = match view.dtype() {
            Dtype::F32 => Values::F32(read!(f32)),
            Dtype::F64 => Values::F64(read!(f64)),
            Dtype::I64 => Values::I64(read!(i64)),
            Dtype::I32 => Values::I32(read!(i32)),
            Dtype::U8 => Values::U8(bytes.to_vec()),
            Dtype::BOOL => Values::Bool(bytes.iter().map(|&b| b != 0).collect()),
            other => panic!("tensor {name}: dtype {other:?} is not part of the format"),
        };
        Array { shape: view.shape().to_vec(), values }
    }
}

fn generated(v: &Value) -> Generated {
    let number = |key: &str| v[key].as_f64().unwrap_or_else(|| panic!("generated tensor without {key}"));
    let kind = match v["kind"].as_str() {
        Some("unit") => Kind::Unit { scale: number("scale"), offset: number("offset") },
        Some("int") => Kind::Int { hi: v["hi"].as_u64().expect("an int tensor has a bound") },
        other => panic!("unknown kind of generated tensor {other:?}"),
    };
    Generated {
        kind,
        seed: v["seed"].as_u64().expect("a generated tensor has a seed"),
        shape: dims(&v["shape"]),
    }
}

fn dims(v: &Value) -> Vec<usize> {
    v.as_array().into_iter().flatten().map(|d| d.as_u64().expect("sizes are numbers") as usize).collect()
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_else(|| panic!("{v} is no text")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixture_is_read_whole() {
        let groups = Group::read_all(&crate::fixtures());
        let cases: Vec<&Case> = groups.iter().flat_map(|g| &g.cases).collect();
        assert!(cases.len() > 800, "{} cases", cases.len());
        let mut names: Vec<&str> = cases.iter().map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|w| w[0] != w[1]), "names are unique");
    }

    #[test]
    fn each_recorded_answer_is_judged_correct_against_itself() {
        for group in Group::read_all(&crate::fixtures()) {
            for case in &group.cases {
                let Expect::Values(outputs) = &case.expect else { continue };
                let Some(rule) = group.rule(case, Precision::F64) else { continue };
                for output in outputs {
                    let Reference::Full(array) = &output.reference else { continue };
                    assert_eq!(array.shape, output.shape, "{}", case.name);
                    assert_eq!(rule.judge(&output.reference, array), Ok(()), "{}", case.name);
                }
            }
        }
    }

    #[test]
    fn arguments_read_infinities_lists_and_nothing() {
        let args = Args(serde_json::json!({"p": "-inf", "dim": 2, "dims": [1, -1], "none": null}));
        assert_eq!(args.f64("p"), f64::NEG_INFINITY);
        assert_eq!(args.ints("dim"), [2]);
        assert_eq!(args.ints("dims"), [1, -1]);
        assert_eq!(args.opt_ints("none"), None);
        assert_eq!(args.opt_f64("absent"), None);
    }
}
