//! The bookkeeping of a caching allocator: large stretches of addresses cut into blocks. It touches no memory itself.
//!
//! A block is taken from the shortest free stretch that holds it, and joins its free neighbours when it is given back.

use std::collections::{BTreeMap, BTreeSet};

/// Stretches of addresses and the blocks in them.
#[derive(Debug)]
pub(crate) struct Slabs {
    /// Blocks have a multiple of so many bytes.
    grain: usize,
    /// Every stretch, free or taken, by its address; together they cover the slabs.
    pieces: BTreeMap<u64, Piece>,
    /// The free ones, shortest first.
    free: BTreeSet<(usize, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    bytes: usize,
    /// The address of its slab.
    slab: u64,
    free: bool,
}

impl Slabs {
    pub(crate) fn new(grain: usize) -> Slabs {
        Slabs { grain, pieces: BTreeMap::new(), free: BTreeSet::new() }
    }

    /// How many bytes a block for `bytes` has.
    pub(crate) fn size_of_block(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.grain)
    }

    /// Adds a slab, all of it free.
    pub(crate) fn add(&mut self, address: u64, bytes: usize) {
        self.pieces.insert(address, Piece { bytes, slab: address, free: true });
        self.free.insert((bytes, address));
    }

    /// The address of a block for `bytes`, if there is a free stretch for it.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<u64> {
        let wanted = self.size_of_block(bytes);
        let &(found, address) = self.free.range((wanted, 0)..).next()?;
        self.free.remove(&(found, address));
        let piece = self.pieces.get_mut(&address).expect("a free stretch is a piece");
        let slab = piece.slab;
        *piece = Piece { bytes: wanted, slab, free: false };
        if found > wanted {
            let rest = address + wanted as u64;
            self.pieces.insert(rest, Piece { bytes: found - wanted, slab, free: true });
            self.free.insert((found - wanted, rest));
        }
        Some(address)
    }

    /// Takes a block back, and says how many bytes it had.
    pub(crate) fn give(&mut self, address: u64) -> usize {
        let given = self.pieces[&address];
        debug_assert!(!given.free, "a block is given back once");
        let (mut start, mut bytes) = (address, given.bytes);
        let next = address + given.bytes as u64;
        if let Some(after) = self.pieces.get(&next).copied().filter(|p| p.free && p.slab == given.slab) {
            self.pieces.remove(&next);
            self.free.remove(&(after.bytes, next));
            bytes += after.bytes;
        }
        let before = self.pieces.range(..address).next_back().map(|(&at, &piece)| (at, piece));
        if let Some((at, before)) = before.filter(|(_, p)| p.free && p.slab == given.slab) {
            self.pieces.remove(&address);
            self.free.remove(&(before.bytes, at));
            start = at;
            bytes += before.bytes;
        }
        self.pieces.insert(start, Piece { bytes, slab: given.slab, free: true });
        self.free.insert((bytes, start));
        given.bytes
    }

    /// How long the block at an address is; `None` if there is none in use.
    pub(crate) fn bytes_of(&self, address: u64) -> Option<usize> {
        self.pieces.get(&address).filter(|piece| !piece.free).map(|piece| piece.bytes)
    }

    /// The addresses of all blocks in use.
    pub(crate) fn taken(&self) -> impl Iterator<Item = u64> {
        self.pieces.iter().filter(|(_, piece)| !piece.free).map(|(&at, _)| at)
    }

    /// Drops the slabs without a block in use, and gives their addresses.
    pub(crate) fn drop_unused(&mut self) -> Vec<u64> {
        let unused: Vec<u64> =
            self.free.iter().filter(|free| self.is_slab(free)).map(|&(_, at)| at).collect();
        for address in &unused {
            let piece = self.pieces.remove(address).expect("it was just found");
            self.free.remove(&(piece.bytes, *address));
        }
        unused
    }

    /// Drops the shortest slab of at least `bytes` bytes without a block in use, and gives its address and length.
    pub(crate) fn take_slab(&mut self, bytes: usize) -> Option<(u64, usize)> {
        let slab = *self.free.range((bytes, 0)..).find(|free| self.is_slab(free))?;
        self.free.remove(&slab);
        self.pieces.remove(&slab.1);
        Some((slab.1, slab.0))
    }

    /// Whether a free stretch is a whole slab.
    fn is_slab(&self, &(bytes, at): &(usize, u64)) -> bool {
        let next = self.pieces.get(&(at + bytes as u64));
        at == self.pieces[&at].slab && next.is_none_or(|next| next.slab != at)
    }

    /// Adds the slabs and blocks of another, whose blocks have multiples of as many bytes.
    pub(crate) fn join(&mut self, other: Slabs) {
        debug_assert_eq!(self.grain, other.grain);
        self.pieces.extend(other.pieces);
        self.free.extend(other.free);
    }
}

#[cfg(test)]
mod tests {
    use super::Slabs;

    #[test]
    fn blocks_come_from_the_shortest_stretch_and_join_again() {
        let mut slabs = Slabs::new(512);
        slabs.add(0x10000, 4096);
        slabs.add(0x40000, 1024);
        assert_eq!(slabs.take(1), Some(0x40000));
        assert_eq!(slabs.take(1000), Some(0x10000));
        assert_eq!(slabs.take(512), Some(0x40200));
        assert_eq!(slabs.take(4096), None);
        assert_eq!(slabs.drop_unused(), []);
        assert_eq!([0x40000, 0x40200, 0x10000].map(|a| slabs.give(a)), [512, 512, 1024]);
        assert_eq!(slabs.take(4096), Some(0x10000));
        assert_eq!(slabs.drop_unused(), [0x40000]);
        assert_eq!(slabs.take(512), None);
        slabs.give(0x10000);
        assert_eq!(slabs.drop_unused(), [0x10000]);
    }

    #[test]
    fn slabs_move_to_others_and_back_with_the_blocks_in_them() {
        let (mut all, mut own) = (Slabs::new(512), Slabs::new(512));
        all.add(0x10000, 4096);
        all.add(0x40000, 1024);
        all.add(0x80000, 8192);
        let block = all.take(600).unwrap();
        assert_eq!((block, all.bytes_of(block), all.bytes_of(0x10000)), (0x40000, Some(1024), None));
        assert_eq!(all.take_slab(1), Some((0x10000, 4096)));
        assert_eq!(all.take_slab(5000), Some((0x80000, 8192)));
        assert_eq!(all.take_slab(1), None);
        own.add(0x10000, 4096);
        let (a, b) = (own.take(512).unwrap(), own.take(512).unwrap());
        own.give(a);
        assert_eq!(own.taken().collect::<Vec<_>>(), [b]);
        all.join(own);
        assert_eq!(all.taken().collect::<Vec<_>>(), [b, block]);
        all.give(b);
        assert_eq!(all.drop_unused(), [0x10000]);
    }

    #[test]
    fn neighbouring_slabs_stay_apart() {
        let mut slabs = Slabs::new(256);
        slabs.add(0x1000, 256);
        slabs.add(0x1100, 256);
        assert_eq!(slabs.take(512), None);
        let (a, b) = (slabs.take(256).unwrap(), slabs.take(256).unwrap());
        slabs.give(a);
        slabs.give(b);
        assert_eq!(slabs.take(512), None);
        assert_eq!(slabs.drop_unused(), [0x1000, 0x1100]);
    }

    #[test]
    fn many_blocks_never_overlap_and_all_come_back() {
        let mut slabs = Slabs::new(64);
        slabs.add(0x1_0000, 1 << 16);
        let mut taken: Vec<(u64, usize)> = vec![];
        for i in 0..2000usize {
            if i % 3 == 2 && !taken.is_empty() {
                let (address, bytes) = taken.swap_remove(i * 7 % taken.len());
                assert_eq!(slabs.give(address), bytes);
            } else if let Some(address) = slabs.take(i * 37 % 900 + 1) {
                let bytes = slabs.size_of_block(i * 37 % 900 + 1);
                let apart = |&(a, n): &(u64, usize)| a + n as u64 <= address || address + bytes as u64 <= a;
                assert!(taken.iter().all(apart));
                taken.push((address, bytes));
            }
        }
        taken.into_iter().for_each(|(address, bytes)| assert_eq!(slabs.give(address), bytes));
        assert_eq!(slabs.drop_unused(), [0x1_0000]);
    }
}
