//! Many tensors in one launch: where they are and how they are cut into chunks, as kernels get it.

use crate::launch::Pointer;
use crate::module::Launch;

/// Threads of a block, and entries of a table: `TABLE_THREADS` and `TABLE_ENTRIES` of `cuda/optim.cu`.
const THREADS: u32 = 256;
const ENTRIES: usize = 256;

/// Elements of a chunk, which is a block's: `TABLE_CHUNK` of `cuda/optim.cu`.
const CHUNK: usize = 4096;

/// Up to four tensors of as many elements: `Entry` of `cuda/optim.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    at: [u64; 4],
    elements: u64,
    first: u32,
    vector: u32,
}

/// What a launch is for: `Table` of `cuda/optim.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Table {
    count: u32,
    chunks: u32,
    entries: [Entry; ENTRIES],
}

/// Tensors of as many elements that are worked on together, all row-major.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<const N: usize> {
    pub(super) at: [Pointer; N],
    pub(super) elements: usize,
}

impl Table {
    /// Tables for all rows, in their order: as few as hold them. A row without elements has no chunk, but an entry.
    pub(super) fn of<const N: usize>(rows: &[Row<N>]) -> Vec<Table> {
        const { assert!(N <= 4) };
        rows.chunks(ENTRIES).map(Table::new).collect()
    }

    fn new<const N: usize>(rows: &[Row<N>]) -> Table {
        let none = Entry { at: [0; 4], elements: 0, first: 0, vector: 0 };
        let mut table = Table { count: rows.len() as u32, chunks: 0, entries: [none; ENTRIES] };
        for (entry, row) in table.entries.iter_mut().zip(rows) {
            for (to, from) in entry.at.iter_mut().zip(row.at) {
                *to = from.0;
            }
            entry.vector = u32::from(entry.at.iter().all(|at| at % 16 == 0));
            (entry.elements, entry.first) = (row.elements as u64, table.chunks);
            let chunks = u32::try_from(row.elements.div_ceil(CHUNK)).ok();
            // 2³¹ chunks of the narrowest floats are 16 TiB.
            let all = chunks.and_then(|chunks| table.chunks.checked_add(chunks)).filter(|&all| all < 1 << 31);
            table.chunks = all.expect("no GPU has memory for so many chunks");
        }
        table
    }

    /// A block for each chunk; `None` if there is none.
    pub(super) fn launch(&self) -> Option<Launch> {
        (self.chunks > 0).then(|| Launch::new(self.chunks, THREADS))
    }

    /// A block for each entry.
    pub(super) fn launch_of_entries(&self) -> Launch {
        Launch::new(self.count, THREADS)
    }

    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    pub(super) fn chunks(&self) -> usize {
        self.chunks as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: u64, elements: usize) -> Row<2> {
        Row { at: [Pointer(at), Pointer(at + 0x10_0000)], elements }
    }

    #[test]
    fn each_tensor_has_its_chunks_one_after_the_other() {
        let [table] = &Table::of(&[row(0x1000, 1), row(0x2000, 0), row(0x3000, 8192), row(0x4004, 8193)])[..]
        else {
            panic!("one table holds all")
        };
        let entries = &table.entries[..4];
        assert_eq!((table.count, table.chunks), (4, 6));
        assert_eq!(entries.iter().map(|e| e.first).collect::<Vec<_>>(), [0, 1, 1, 3]);
        assert_eq!(entries.iter().map(|e| e.vector).collect::<Vec<_>>(), [1, 1, 1, 0]);
        assert_eq!(entries[2].at, [0x3000, 0x10_3000, 0, 0]);
    }

    #[test]
    fn more_tensors_than_a_table_has_entries_take_several() {
        let rows: Vec<_> = (0..600).map(|i| row(i * 256, 10)).collect();
        let tables = Table::of(&rows);
        assert_eq!(tables.iter().map(Table::count).collect::<Vec<_>>(), [256, 256, 88]);
        assert_eq!(tables[2].entries[87].at[0], 599 * 256);
        assert!(Table::of::<2>(&[]).is_empty());
        assert!(Table::of(&[row(0, 0)])[0].launch().is_none());
    }
}
