//! Readers of data files on arbitrary bytes.

use crate::bytes::Bytes;
use nn::data::{CsvOptions, parse_csv, parse_idx};
use tensor::Device;

/// Reads bytes as an IDX file. Any bytes give a tensor or an error, and a tensor holds exactly the bytes that follow
/// the header.
pub fn idx_file(bytes: &[u8]) {
    let zipped = bytes.starts_with(&[0x1f, 0x8b]);
    match parse_idx(bytes, "input", &Device::cpu()) {
        Ok(tensor) if !zipped => {
            let data = tensor.to_vec::<u8>().expect("IDX files hold bytes");
            assert_eq!(data, bytes[4 + 4 * tensor.rank()..]);
        }
        Ok(_) => {}
        Err(error) => assert!(error.to_string().starts_with("input: "), "no file named: {error}"),
    }
}

/// Reads bytes as a table of numbers; the first two say how it is written. Any bytes give a table or an error, and a
/// table has as many values as its lines have fields.
pub fn csv_file(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let header = bytes.below(2) == 1;
    let separator = [',', ';', '\t', ' ', '"', '\n', '.', '·'][bytes.below(8)];
    let (options, text) = (CsvOptions { header, separator }, bytes.rest());
    match parse_csv(text, "input", &options, &Device::cpu()) {
        Ok(table) => {
            let &[rows, columns] = table.values.dims() else { panic!("a table has two dims") };
            assert!(rows > 0 && columns > 0, "{rows} rows of {columns}");
            assert_eq!(table.names.len(), if header { columns } else { 0 });
            // A label column may hold anything, or not exist: an error then, too.
            let _ = table.dataset(0);
            let _ = table.dataset(columns);
        }
        Err(error) => assert!(error.to_string().starts_with("input: "), "no file named: {error}"),
    }
}
