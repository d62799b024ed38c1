//! The kernels of the processor against those of the model, bit by bit, and the model against what is known of tiles.

use super::super::model::tdpbf16ps;
use super::*;

#[test]
fn the_model_flushes_denormals_and_sums_even_and_odd_steps_apart() {
    let word = |first: f32, second: f32| first.to_bits() >> 16 | second.to_bits() & 0xffff_0000;
    let one = |c: f32, pairs: &[(f32, f32, f32, f32)]| {
        let (mut c_tile, mut a, mut b) = ([[0; 16]; 16], [[0; 16]; 16], [[0; 16]; 16]);
        c_tile[2][3] = c.to_bits();
        for (k, &(a0, a1, b0, b1)) in pairs.iter().enumerate() {
            (a[2][k], b[k][3]) = (word(a0, a1), word(b0, b1));
        }
        tdpbf16ps(&mut c_tile, &a, &b);
        f32::from_bits(c_tile[2][3])
    };
    let tiny = 2f32.powi(-130);
    assert_eq!(one(1.0, &[(2.0, 3.0, 5.0, 7.0)]), 32.0);
    assert_eq!(one(tiny, &[]), 0.0, "a denormal sum is zero");
    assert_eq!(one(0.0, &[(tiny, 1.0, 2f32.powi(100), 0.0)]), 0.0, "a denormal operand is zero");
    assert_eq!(one(0.0, &[(2f32.powi(-70), 0.0, 2f32.powi(-60), 0.0)]), 0.0, "a denormal product is zero");
    // In one chain 1 would be lost in 2^24; apart, both chains are exact.
    let big = 2f32.powi(24);
    assert_eq!(one(0.0, &[(big, 1.0, 1.0, 1.0), (-big, 0.0, 1.0, 0.0)]), 1.0);
    assert_eq!(one(0.0, &[(big, 0.0, 1.0, 0.0), (1.0, 0.0, 1.0, 0.0), (-big, 0.0, 1.0, 0.0)]), 0.0);
    assert!(one(0.0, &[(f32::INFINITY, 0.0, 0.0, 0.0)]).is_nan());
}

/// Pairs of `bf16` of many magnitudes, denormal ones among them, and products too.
fn rows(random: &mut Random, len: usize) -> Vec<Row> {
    let mut half = || {
        let bits = random.bits();
        let exponent = match bits >> 28 {
            0 => 0,
            1 => 20,
            _ => 80 + (bits >> 8) % 80,
        };
        bits & 0x807f | exponent << 7
    };
    (0..len).map(|_| Row(std::array::from_fn(|_| half() | half() << 16))).collect()
}

#[test]
fn the_kernels_give_the_bits_of_the_model() {
    let random = &mut Random(6);
    for (blocks, add, c_row) in [(1, false, 32), (2, true, 75)] {
        let (a, b) = (rows(random, blocks * 96), rows(random, blocks * 96));
        for products in [Products::One, Products::Three, Products::Four, Products::Six] {
            let run = |unit: &'static Unit, short| {
                let mut c: Vec<f32> = (0..32 * 75).map(|at| at as f32).collect();
                let (c_start, ahead) = (c.as_mut_ptr(), a.as_ptr());
                let job = TileJob { a: a.as_ptr(), b: b.as_ptr(), blocks, c: c_start, c_row, add, ahead };
                let session = Session::new(unit);
                // SAFETY: A and B have rows for as many blocks of three parts, C has 32 rows of 32 values.
                unsafe { session.run(products, short, &job) };
                drop(session);
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let whole = run(&model::UNIT, false);
            let half: Vec<u32> = run(&model::UNIT, true);
            let rows = 16 * c_row as usize;
            assert_eq!(half[..rows], whole[..rows], "half a square is half of the square");
            assert!((rows..half.len()).all(|at| half[at] == (at as f32).to_bits()), "and nothing else");
            if let Some(unit) = native() {
                let of = format!("{products:?}, {blocks} blocks, add {add}, row {c_row}");
                assert_eq!(run(unit, false), whole, "{of}");
                assert_eq!(run(unit, true), half, "{of}, short");
            }
        }
    }
}

#[test]
fn the_kernels_on_lines_give_the_bits_of_the_model_and_of_the_kernels_on_panels() {
    let random = &mut Random(10);
    for blocks in [1, 2] {
        let (a, b) = (rows(random, blocks * 96), rows(random, blocks * 96));
        for products in [Products::One, Products::Three, Products::Four, Products::Six] {
            // Planes of 97 numbers for each line of each part, of which 32 for each block, from the third on, are the line.
            let (row, parts) = (97, products.parts());
            let mut planes = vec![u16::MAX; parts * 32 * row];
            for (at, a) in a.iter().take(blocks * parts * 32).enumerate() {
                let (block, part, line) = (at / (32 * parts), at / 32 % parts, at % 32);
                let to = (part * 32 + line) * row + 3 + block * 32;
                planes[to..to + 32].copy_from_slice(bytemuck::cast_slice(&a.0));
            }
            for add in [false, true] {
                let start: Vec<f32> = (0..32 * 32).map(|at| at as f32).collect();
                let on_lines = |unit| {
                    let mut c = start.clone();
                    let job = LinesJob {
                        planes: planes[3..].as_ptr(),
                        part: 32 * row * 2,
                        row: row * 2,
                        b: b.as_ptr(),
                        blocks,
                        c: c.as_mut_ptr(),
                        add,
                    };
                    let tiles = Tiles { unit, f32: None };
                    let correlator = Correlator::new(Level { tiles, products, isa: Isa::Portable });
                    // SAFETY: the planes have 32 steps for each block, B has rows for as many blocks, C 32 rows of 32 values.
                    unsafe { correlator.add_lines(&job) };
                    c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let mut c = start.clone();
                let (c_start, ahead) = (c.as_mut_ptr(), a.as_ptr());
                let job = TileJob { a: a.as_ptr(), b: b.as_ptr(), blocks, c: c_start, c_row: 32, add, ahead };
                // SAFETY: A and B have rows for as many blocks, C 32 rows of 32 values.
                unsafe { Session::new(&model::UNIT).run(products, false, &job) };
                let expected: Vec<u32> = c.into_iter().map(f32::to_bits).collect();
                for unit in [&model::UNIT].into_iter().chain(native()) {
                    assert_eq!(on_lines(unit), expected, "{products:?}, {blocks} blocks, add {add}");
                }
            }
        }
    }
}

#[test]
fn the_kernels_on_bytes_give_the_numbers_of_the_model() {
    let random = &mut Random(7);
    let mut rows =
        |len| -> Vec<Row> { (0..len).map(|_| Row(std::array::from_fn(|_| random.bits()))).collect() };
    for (blocks, add, c_row) in [(1, false, 32), (3, true, 75)] {
        let (a, b) = (rows(blocks * 32), rows(blocks * 32));
        for signs in 0..4 {
            let run = |unit: &'static Unit, short| {
                let mut c: Vec<i32> = (0..32 * 75).collect();
                let (c_start, ahead) = (c.as_mut_ptr().cast(), a.as_ptr());
                let job = TileJob { a: a.as_ptr(), b: b.as_ptr(), blocks, c: c_start, c_row, add, ahead };
                let _session = Session::new(unit);
                // SAFETY: A and B have rows for as many blocks, C has 32 rows of 32 values.
                unsafe { (if short { unit.short_bytes } else { unit.bytes }[signs])(&job) };
                c
            };
            let (whole, half) = (run(&model::UNIT, false), run(&model::UNIT, true));
            let rows = 16 * c_row as usize;
            assert!(half[..rows] == whole[..rows] && (rows..half.len()).all(|at| half[at] == at as i32));
            if let Some(unit) = native() {
                assert_eq!(run(unit, false), whole, "signs {signs}, {blocks} blocks, add {add}, row {c_row}");
                assert_eq!(
                    run(unit, true),
                    half,
                    "signs {signs}, {blocks} blocks, add {add}, row {c_row}, short"
                );
            }
        }
    }
}

#[test]
fn the_kernels_on_planes_give_the_bits_of_the_model_and_of_the_kernels_on_panels() {
    let random = &mut Random(8);
    for blocks in [1, 2] {
        let (a, b) = (rows(random, blocks * 96), rows(random, blocks * 96));
        for products in [Products::One, Products::Three, Products::Four, Products::Six] {
            // Planes of 40 words for each part of each block, of which 32 from the third on are the block.
            let (row, parts) = (40, products.parts());
            let mut planes = vec![u32::MAX; parts * blocks * 16 * row];
            for (at, word) in (0..parts * blocks * 16 * 32).map(|at| (at, b[at / 16].0[at % 16])) {
                let (tile, r, j) = (at / 256, at / 16 % 16, at % 16);
                let (block, part, half) = (tile / (2 * parts), tile / 2 % parts, tile % 2);
                planes[((part * blocks + block) * 16 + r) * row + 3 + half * 16 + j] = word;
            }
            let offsets: Vec<usize> = (0..blocks).map(|block| (block * 16 * row + 3) * 4).collect();
            let on_planes = |unit| {
                let mut c = vec![f32::NAN; 32 * 32];
                let job = PlaneJob {
                    a: a.as_ptr(),
                    planes: planes.as_ptr(),
                    part: blocks * 16 * row * 4,
                    row: row * 4,
                    offsets: offsets.as_ptr(),
                    blocks,
                    c: c.as_mut_ptr(),
                };
                let tiles = Tiles { unit, f32: None };
                let correlator = Correlator::new(Level { tiles, products, isa: Isa::Portable });
                // SAFETY: A has rows for as many blocks, the planes those of B, C 32 rows of 32 values.
                unsafe { correlator.run(&job) };
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let mut c = vec![f32::NAN; 32 * 32];
            let (c_start, ahead) = (c.as_mut_ptr(), a.as_ptr());
            let job =
                TileJob { a: a.as_ptr(), b: b.as_ptr(), blocks, c: c_start, c_row: 32, add: false, ahead };
            // SAFETY: A and B have rows for as many blocks, C 32 rows of 32 values.
            unsafe { Session::new(&model::UNIT).run(products, false, &job) };
            let expected: Vec<u32> = c.into_iter().map(f32::to_bits).collect();
            assert_eq!(on_planes(&model::UNIT), expected, "{products:?}, {blocks} blocks");
            native()
                .into_iter()
                .for_each(|unit| assert_eq!(on_planes(unit), expected, "{products:?}, {blocks} blocks"));
        }
    }
}
