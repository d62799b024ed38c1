//! Files of about 10 MB, read from memory. Bytes are those of the file.

mod common;

use common::{bench, device, random, settings};
use criterion::Throughput::Bytes;
use gradus::nn::data::{CsvOptions, parse_csv, parse_idx};
use gradus::nn::state::{load_from_bytes, load_tensors_from_bytes, save_to_bytes};
use gradus::nn::{Init, Linear, LoadOptions, Sequential};
use gradus::{DType, Result};

fn main() -> Result<()> {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("load");

    let mut init = Init::new(42).device(device());
    let layers = (0..10).map(|_| Linear::new(512, 512, &mut init)).collect::<Result<Vec<_>>>()?;
    let model = layers.into_iter().fold(Sequential::new(), Sequential::add);
    let file = save_to_bytes(&model)?;
    let size = Bytes(file.len() as u64);
    bench(&mut group, "safetensors_tensors/10x512x512/float32", size.clone(), || {
        load_tensors_from_bytes(&file, device())
    });
    bench(&mut group, "safetensors_model/10x512x512/float32", size.clone(), || {
        load_from_bytes(&model, &file, &LoadOptions::default())
    });
    bench(&mut group, "safetensors_save/10x512x512/float32", size, || save_to_bytes(&model));

    let [n, h, w] = [12_800usize, 28, 28];
    let mut idx = vec![0, 0, 8, 3];
    idx.extend([n, h, w].into_iter().flat_map(|extent| (extent as u32).to_be_bytes()));
    idx.extend((0..n * h * w).map(|i| (i * 31) as u8));
    bench(&mut group, "idx/12800x28x28/uint8", Bytes(idx.len() as u64), || {
        parse_idx(&idx[..], "bench", device())
    });

    let numbers = random([1_000_000], DType::F32)?.to_vec::<f32>()?;
    let rows = numbers.chunks(10).map(|row| row.iter().map(f32::to_string).collect::<Vec<_>>().join(","));
    let csv = rows.collect::<Vec<_>>().join("\n");
    bench(&mut group, "csv/100000x10/float64", Bytes(csv.len() as u64), || {
        parse_csv(csv.as_bytes(), "bench", &CsvOptions::default(), device())
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
