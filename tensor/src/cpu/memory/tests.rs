use super::*;
use std::collections::HashSet;
use std::sync::mpsc;

#[test]
fn every_block_is_aligned_and_as_long_as_asked() {
    for bytes in [0, 1, 3, 63, 64, 65, 511, 512, 513, 4096, 1 << 20, (1 << 20) + 1, 2 << 20, (5 << 20) + 12] {
        let mut memory = Memory::new(bytes).unwrap();
        assert_eq!(memory.bytes(), bytes);
        assert_eq!(memory.as_ptr().align_offset(ALIGNMENT), 0);
        memory.as_mut_slice::<u8>().fill(7);
        assert_eq!(memory.as_slice::<u8>().iter().filter(|&&x| x == 7).count(), bytes);
    }
}

#[test]
fn live_blocks_do_not_overlap() {
    let mut blocks: Vec<_> = (1..400).map(|n| Memory::new(n * 37).unwrap()).collect();
    for (i, block) in blocks.iter_mut().enumerate() {
        block.as_mut_slice::<u8>().fill(i as u8);
    }
    for (i, block) in blocks.iter().enumerate() {
        assert!(block.as_slice::<u8>().iter().all(|&x| x == i as u8));
    }
}

#[test]
fn a_small_block_is_the_next_one_of_its_size_on_its_thread() {
    for bytes in [1, 64, 1000, 100_000, 1 << 20] {
        let address = Memory::new(bytes).unwrap().as_ptr();
        assert_eq!(Memory::new(bytes).unwrap().as_ptr(), address);
    }
}

#[test]
fn zeroed_memory_is_zero_also_when_recycled() {
    for bytes in [12, 100_000, 3 << 20] {
        Memory::new(bytes).unwrap().as_mut_slice::<u8>().fill(0xff);
        assert!(Memory::zeroed(bytes).unwrap().as_slice::<u8>().iter().all(|&x| x == 0));
    }
}

#[test]
fn an_absurd_size_is_an_error_that_names_it() {
    for bytes in [usize::MAX, isize::MAX as usize, 1 << (usize::BITS - 2), 1 << (usize::BITS - 4)] {
        assert_eq!(Memory::new(bytes).unwrap_err(), OutOfMemory { bytes });
    }
    assert!(OutOfMemory { bytes: 12 }.to_string().contains("12 bytes"));
}

#[test]
fn slices_count_values_of_their_type() {
    let mut memory = Memory::new(48).unwrap();
    memory.as_mut_slice::<f32>().fill(1.0);
    assert_eq!(memory.as_slice::<f32>(), [1.0; 12]);
    assert_eq!(memory.as_slice::<u64>(), [0x3f80_0000_3f80_0000; 6]);
    assert!(Memory::new(0).unwrap().as_slice::<f64>().is_empty());
}

#[test]
#[should_panic(expected = "10 bytes are no slice of 4-byte values")]
fn a_length_that_does_not_divide_is_refused() {
    Memory::new(10).unwrap().as_slice::<f32>();
}

#[test]
fn blocks_cross_threads_and_keep_their_contents() {
    std::thread::scope(|s| {
        let (sender, receiver) = mpsc::channel::<(usize, Memory)>();
        for thread in 0..4 {
            let sender = sender.clone();
            s.spawn(move || {
                for round in 0..500 {
                    let bytes = 1 + (round * 7919 + thread * 104_729) % 300_000;
                    let mut memory = Memory::new(bytes).unwrap();
                    memory.as_mut_slice::<u8>().fill(bytes as u8);
                    sender.send((bytes, memory)).unwrap();
                }
            });
        }
        drop(sender);
        let mut held = Vec::new();
        for (i, (bytes, memory)) in receiver.into_iter().enumerate() {
            assert!(memory.as_slice::<u8>().iter().all(|&x| x == bytes as u8));
            held.push(memory);
            if i % 50 == 0 {
                held.clear();
            }
        }
    });
}

#[test]
fn a_thread_that_ends_leaves_its_blocks_to_others() {
    // A size that no other test asks for; several tries, because a test that runs out of memory trims the cache meanwhile.
    let bytes = 777_777;
    let reused = || {
        let allocate = move || (0..4).map(|_| Memory::new(bytes).unwrap()).collect();
        let addresses = |blocks: Vec<Memory>| blocks.iter().map(|b| b.as_ptr() as usize).collect();
        let freed: HashSet<usize> = std::thread::spawn(move || addresses(allocate())).join().unwrap();
        freed.contains(&(Memory::new(bytes).unwrap().as_ptr() as usize))
    };
    assert!((0..10).any(|_| reused()));
}

#[cfg(all(unix, not(miri)))]
#[test]
fn a_forked_child_allocates_although_other_threads_did_at_that_moment() {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !done.load(Relaxed) {
                    drop(Memory::new(3 << 20).unwrap());
                }
            });
        }
        let statuses = (0..50).map(|_| {
            // SAFETY: the child only allocates and leaves by `_exit`; should it hang, the alarm ends it.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: no handler is installed, so the signal ends the process.
                unsafe { libc::alarm(20) };
                let right =
                    (0..10).all(|_| Memory::zeroed(3 << 20).is_ok_and(|memory| memory.bytes() == 3 << 20));
                // SAFETY: ends the child without running the parent's destructors.
                unsafe { libc::_exit(if right { 0 } else { 1 }) };
            }
            let mut status = -1;
            // SAFETY: `child` is ours (or -1: then `status` stays as it is) and `status` is writable.
            unsafe { libc::waitpid(child, &mut status, 0) };
            status
        });
        let right = statuses.into_iter().all(|status| status == 0);
        done.store(true, Relaxed);
        assert!(right, "a child failed or hung");
    });
}

/// Runs one ignored test of this module in a process of its own: the statistics count the whole process.
fn run_alone(test: &str) {
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).args(["--ignored", "--exact", &name]).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "{report}");
}

#[test]
fn a_steady_loop_asks_nothing_of_the_system() {
    run_alone("steady_loop");
}

#[test]
#[ignore = "needs a process of its own"]
fn steady_loop() {
    let step = || {
        let blocks: Vec<_> = (0..24).map(|i| Memory::new(100 << i >> (i / 2)).unwrap()).collect();
        let large: Vec<_> = (1..9).map(|i| Memory::new(i * 3_000_000).unwrap()).collect();
        drop((blocks, large));
    };
    step();
    let before = memory_stats();
    (0..100).for_each(|_| step());
    assert_eq!(memory_stats(), before);
}

#[test]
fn the_statistics_follow_what_is_allocated() {
    run_alone("statistics");
}

#[test]
#[ignore = "needs a process of its own"]
fn statistics() {
    let start = memory_stats();
    assert_eq!(start, MemoryStats::default());

    let (a, b) = (Memory::new(1000).unwrap(), Memory::new(4 << 20).unwrap());
    let (small, large) = (1024, 4 << 20);
    let both = memory_stats();
    assert_eq!((both.live_bytes, both.peak_bytes, both.cached_bytes), (small + large, small + large, 0));
    assert_eq!(both.system_allocations, 2);

    drop(b);
    let one = memory_stats();
    assert_eq!((one.live_bytes, one.peak_bytes, one.cached_bytes), (small, small + large, large));
    reset_peak();
    assert_eq!(memory_stats().peak_bytes, small);

    drop(a);
    trim();
    assert_eq!(memory_stats(), MemoryStats { peak_bytes: small, system_allocations: 2, ..start });
}

#[test]
fn the_cache_gives_back_its_oldest_blocks_beyond_its_bound() {
    run_alone("bounded_cache");
}

#[test]
#[ignore = "needs a process of its own"]
fn bounded_cache() {
    // Untouched pages cost nothing: 90 sizes of 32 to 50 MB, of which only one is live at a time.
    for i in 0..90 {
        drop(Memory::new((32 << 20) + i * 200_000).unwrap());
        assert!(memory_stats().cached_bytes <= CACHE_FLOOR);
    }
    let youngest = memory_stats().system_allocations;
    drop(Memory::new((32 << 20) + 89 * 200_000).unwrap());
    assert_eq!(memory_stats().system_allocations, youngest);
}

#[test]
fn blocks_of_many_sizes_are_given_back_when_asked_for() {
    run_alone("many_sizes");
}

#[test]
#[ignore = "needs a process of its own"]
fn many_sizes() {
    (1..2000).for_each(|i| drop(Memory::new(i * 977).unwrap()));
    let cached = memory_stats().cached_bytes;
    assert!(0 < cached && cached <= CACHE_FLOOR, "{cached} bytes are cached");
    trim();
    assert_eq!(memory_stats().cached_bytes, 0);
}

#[test]
fn what_threads_counted_by_themselves_adds_up_when_they_end() {
    run_alone("counts_of_threads");
}

#[test]
#[ignore = "needs a process of its own"]
fn counts_of_threads() {
    let kept: Vec<Memory> = (0..100).map(|_| Memory::new(64).unwrap()).collect();
    let theirs = std::thread::scope(|s| {
        // Gives back what this thread counted, and keeps as much of its own.
        s.spawn(|| {
            drop(kept);
            (0..50).map(|_| Memory::new(128).unwrap()).collect::<Vec<_>>()
        })
        .join()
        .unwrap()
    });
    assert_eq!(memory_stats().live_bytes, 50 * 128);
    drop(theirs);
    let end = memory_stats();
    assert_eq!((end.live_bytes, end.peak_bytes >= 50 * 128), (0, true));
}

/// Prints what a block costs: run with `--ignored --nocapture`, in release.
#[test]
#[ignore = "a measurement"]
fn measure_the_cost_of_a_block() {
    for bytes in [64, 4096, 1 << 20, 4 << 20, 64 << 20] {
        let rounds = 1_000_000;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(Memory::new(std::hint::black_box(bytes)).unwrap());
        }
        println!("{bytes} bytes: {:.1} ns", start.elapsed().as_nanos() as f64 / rounds as f64);
    }
    let start = std::time::Instant::now();
    let mut fresh = Memory::new(256 << 20).unwrap();
    fresh.as_mut_slice::<u8>().iter_mut().step_by(4096).for_each(|x| *x = 1);
    println!("first touch of 256 MB: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}
