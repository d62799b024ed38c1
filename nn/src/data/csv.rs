//! Tables of numbers in comma-separated files.

use super::TensorDataset;
use super::file::Source;
use std::io::Read;
use std::path::Path;
use tensor::{DType, Device, Error, Result, Tensor};

/// How a table is written.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    /// Whether the first line names the columns.
    pub header: bool,
    /// What stands between two fields.
    pub separator: char,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions { header: false, separator: ',' }
    }
}

/// A table of numbers.
#[derive(Clone, Debug)]
pub struct Csv {
    /// The names of the columns; empty if the file has no header.
    pub names: Vec<String>,
    /// The numbers, `float64`, `[rows, columns]`.
    pub values: Tensor,
}

impl Csv {
    /// The position of a named column.
    ///
    /// # Errors
    /// When no column has that name.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.names.iter().position(|n| n == name).ok_or_else(|| {
            Error::argument("csv", format!("no column is called {name:?}; there are {:?}", self.names))
        })
    }

    /// Inputs and labels: one column holds the classes, as integers, the others are `float32` inputs.
    ///
    /// # Errors
    /// When there is no such column, or it holds a number that is not an integer.
    pub fn dataset(&self, label: usize) -> Result<TensorDataset> {
        let columns = self.values.size(1)?;
        if label >= columns {
            return Err(Error::index("csv", label as i64, columns));
        }
        let classes = self.values.select(1, label as isize)?;
        let labels = classes.to_dtype(DType::I64)?;
        let exact = labels.to_vec::<i64>()?;
        let row = classes.to_vec::<f64>()?.iter().zip(&exact).position(|(&x, &i)| x != i as f64);
        if let Some(row) = row {
            return Err(Error::argument("csv", format!("the label of row {row} is not an integer")));
        }
        let inputs = [
            self.values.narrow(1, 0, label)?.contiguous()?,
            self.values.narrow(1, label + 1, columns - label - 1)?.contiguous()?,
        ];
        TensorDataset::new(Tensor::cat(&inputs, 1)?.to_dtype(DType::F32)?, labels)
    }
}

/// Reads a table of numbers from a file, gzipped or not.
///
/// Empty lines are skipped; space around a field and quotes around it do not count.
///
/// # Errors
/// When the file cannot be read, a line has more or fewer fields than the first, or a field is not a number: the
/// message names the file, the line and what was expected.
pub fn read_csv(path: impl AsRef<Path>, options: &CsvOptions, device: &Device) -> Result<Csv> {
    parse(&mut Source::open(path.as_ref())?, options, device)
}

/// As [`read_csv`], from any bytes; `name` stands for the path in errors.
///
/// ```
/// use gradus_nn::data::{CsvOptions, parse_csv};
/// use tensor::Device;
/// # fn main() -> tensor::Result<()> {
/// let options = CsvOptions { header: true, ..Default::default() };
/// let table = parse_csv(&b"x,y\n1,2\n3,4.5\n"[..], "table", &options, &Device::cpu())?;
/// assert_eq!(table.values.to_vec::<f64>()?, [1., 2., 3., 4.5]);
/// assert_eq!(table.column("y")?, 1);
/// let error = parse_csv(&b"x,y\n1,2\n3\n"[..], "table", &options, &Device::cpu()).unwrap_err();
/// assert_eq!(error.to_string(), "table: line 3: 1 field, expected 2");
/// # Ok(()) }
/// ```
pub fn parse_csv(reader: impl Read, name: &str, options: &CsvOptions, device: &Device) -> Result<Csv> {
    parse(&mut Source::new(Path::new(name), reader)?, options, device)
}

fn parse(source: &mut Source, options: &CsvOptions, device: &Device) -> Result<Csv> {
    let bytes = source.rest()?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut names = Vec::new();
    let mut values: Vec<f64> = Vec::new();
    let (mut columns, mut rows) = (None, 0);
    for (i, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|e| source.error(format!("line {}: not UTF-8 at byte {}", i + 1, e.valid_up_to())))?;
        if line.trim().is_empty() {
            continue;
        }
        let fields = line.split(options.separator).map(|f| f.trim().trim_matches('"').trim());
        let count = fields.clone().count();
        let expected = *columns.get_or_insert(count);
        if count != expected {
            let s = if count == 1 { "" } else { "s" };
            return Err(source.error(format!("line {}: {count} field{s}, expected {expected}", i + 1)));
        }
        if options.header && names.is_empty() {
            names = fields.map(str::to_string).collect();
            continue;
        }
        for (j, field) in fields.enumerate() {
            values.push(field.parse().map_err(|_| {
                let error = source.error(format!(
                    "line {}, field {}: {:?} is not a number",
                    i + 1,
                    j + 1,
                    shortened(field)
                ));
                match rows == 0 && !options.header {
                    true => error.hint("set header if the first line names the columns"),
                    false => error,
                }
            })?);
        }
        rows += 1;
    }
    if rows == 0 {
        return Err(source.error("no numbers in it"));
    }
    Ok(Csv { names, values: Tensor::from_slice(&values, [rows, columns.unwrap_or(0)], device)? })
}

/// The start of a field, for a message.
fn shortened(field: &str) -> String {
    match field.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &field[..end]),
        None => field.to_string(),
    }
}
