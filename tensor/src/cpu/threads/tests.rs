use super::*;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// How often each of `tasks` tasks ran.
fn counts(tasks: usize) -> Vec<usize> {
    let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    parallel_for(tasks, |i| {
        counts[i].fetch_add(1, Relaxed);
    });
    counts.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_task_runs_once_for_any_number_of_threads() {
    for threads in [1, 2, 3, 7] {
        with_num_threads(threads, || {
            assert_eq!(num_threads(), threads);
            for tasks in [0, 1, 2, 3, 7, 8, 63, 64, 65, 1000, 10_007] {
                assert!(counts(tasks).iter().all(|&n| n == 1), "{tasks} tasks, {threads} threads");
            }
        });
    }
}

/// Runs regions of `threads` tasks that wait until all of them are under way at once, which only as many threads can bring about,
/// until one region does; the pool may be another test's meanwhile, and then a region is serial.
fn meet(threads: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let met = || {
        let (arrived, met) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let give_up = Instant::now() + Duration::from_millis(500);
        parallel_for(threads, |_| {
            arrived.fetch_add(1, Relaxed);
            let serial = num_threads() > 1;
            while !serial && arrived.load(Relaxed) < threads && Instant::now() < give_up {
                std::thread::yield_now();
            }
            met.fetch_add(usize::from(!serial && arrived.load(Relaxed) == threads), Relaxed);
        });
        met.into_inner() == threads
    };
    while !met() {
        assert!(Instant::now() < deadline, "{threads} threads never met");
        std::thread::yield_now();
    }
}

#[test]
fn as_many_threads_work_as_were_asked_for() {
    for threads in [2, 3, 7, 2] {
        with_num_threads(threads, || meet(threads));
    }
}

#[test]
fn a_number_of_threads_holds_inside_another_and_after_it() {
    with_num_threads(1, || {
        let here = std::thread::current().id();
        parallel_for(64, |_| assert_eq!(std::thread::current().id(), here));
        with_num_threads(2, || meet(2));
        assert_eq!(num_threads(), 1);
    });
    with_num_threads(2, || {
        with_num_threads(3, || meet(3));
        meet(2);
    });
}

#[test]
fn every_thread_that_asks_for_two_gets_two_when_its_turn_comes() {
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| with_num_threads(2, || (0..3).for_each(|_| meet(2))));
        }
    });
    // A thread that is born later, when workers sleep.
    std::thread::sleep(Duration::from_millis(20));
    std::thread::spawn(|| with_num_threads(2, || meet(2))).join().expect("the other thread meets too");
}

#[test]
fn a_region_inside_a_task_runs_serially() {
    let total = AtomicUsize::new(0);
    with_num_threads(3, || {
        parallel_for(16, |_| {
            let here = std::thread::current().id();
            parallel_for(16, |_| {
                assert_eq!(std::thread::current().id(), here);
                total.fetch_add(1, Relaxed);
            });
        });
        assert_eq!(num_threads(), 3);
    });
    assert_eq!(total.into_inner(), 256);
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    for threads in [1, 2, 7] {
        with_num_threads(threads, || {
            for _ in 0..20 {
                let caught = std::panic::catch_unwind(|| {
                    parallel_for(100, |i| assert!(i != 41, "task {i} fails on purpose"));
                });
                let message = *caught.unwrap_err().downcast::<String>().unwrap();
                assert_eq!(message, "task 41 fails on purpose");
                assert_eq!(num_threads(), threads);
                assert!(counts(100).iter().all(|&n| n == 1));
            }
        });
    }
}

#[test]
fn ten_thousand_tiny_regions_end() {
    let total = AtomicUsize::new(0);
    for _ in 0..10_000 {
        parallel_for(4, |i| {
            total.fetch_add(i, Relaxed);
        });
    }
    assert_eq!(total.into_inner(), 60_000);
}

#[test]
fn many_threads_start_regions_at_once() {
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for round in 0..200 {
                    with_num_threads(1 + round % 4, || assert!(counts(33).iter().all(|&n| n == 1)));
                }
            });
        }
    });
}

#[test]
fn a_sum_in_task_order_is_the_same_for_any_number_of_threads() {
    let sum = |threads| {
        let mut parts = vec![0f32; 1000];
        with_num_threads(threads, || {
            parallel_chunks_mut(&mut parts, 7, |i, part| {
                part.iter_mut().enumerate().for_each(|(j, x)| *x = 1.0 / (1 + i * 7 + j) as f32);
            });
        });
        parts.iter().sum::<f32>().to_bits()
    };
    assert!([2, 3, 7].into_iter().all(|threads| sum(threads) == sum(1)));
}

#[test]
fn chunks_cover_the_slice_and_the_last_may_be_short() {
    for (len, chunk) in [(0, 3), (1, 3), (9, 3), (10, 3), (5, usize::MAX), (1000, 1)] {
        let mut data = vec![usize::MAX; len];
        parallel_chunks_mut(&mut data, chunk, |i, part| {
            assert!(part.len() == chunk.min(len - i * chunk));
            part.fill(i);
        });
        assert!(data.iter().enumerate().all(|(j, &i)| i == j / chunk));
    }
}

#[test]
fn tiles_of_one_matrix_are_written_at_once() {
    let (rows, cols) = (9, 10);
    let mut matrix = vec![0; rows * cols];
    let shared = SharedMut::new(&mut matrix);
    parallel_for(5, |tile| {
        for row in 0..rows {
            let start = row * cols + tile * 2;
            // SAFETY: tile `t` has columns 2t and 2t + 1 of each row, and each index runs once.
            unsafe { shared.slice(start..start + 2) }.fill(tile);
        }
    });
    assert!(matrix.iter().enumerate().all(|(i, &tile)| tile == i % cols / 2));
}

#[test]
#[should_panic(expected = "SharedMut")]
fn a_range_outside_the_shared_slice_panics() {
    let mut data = [0; 4];
    // SAFETY: nobody else reaches `data`.
    unsafe { SharedMut::new(&mut data).slice(2..5) };
}

#[test]
fn the_thread_count_in_the_environment_must_be_positive() {
    let parse = |s: &str| parse_threads(Some(s.to_owned()));
    assert_eq!((parse("3"), parse(" 12 ")), (Some(3), Some(12)));
    assert_eq!(parse("1000000000"), Some(MAX_THREADS));
    assert!(["", "0", "-1", "two", "1.5"].into_iter().all(|s| parse(s).is_none()));
    assert_eq!(parse_threads(None), None);
}

#[test]
fn with_num_threads_restores_the_count_after_a_panic() {
    let before = num_threads();
    let caught = std::panic::catch_unwind(|| with_num_threads(5, || panic!("on purpose")));
    assert!(caught.is_err());
    assert_eq!(num_threads(), before);
}

#[cfg(unix)]
#[test]
fn a_forked_child_computes_with_a_pool_of_its_own() {
    with_num_threads(3, || counts(10));
    // SAFETY: the child only computes and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let right = with_num_threads(3, || (0..100).all(|_| counts(10).iter().all(|&n| n == 1)));
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(if right { 0 } else { 1 }) };
    }
    assert!(child > 0, "fork failed");
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut status = -1;
    // SAFETY: `child` is ours and `status` is writable.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if Instant::now() > deadline {
            // SAFETY: `child` is ours and not yet waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(status, 0);
    assert!(counts(10).iter().all(|&n| n == 1));
}

/// Prints what a region of `num_threads()` empty tasks costs: run with `--ignored --nocapture`, in release.
#[test]
#[ignore = "a measurement"]
fn measure_the_cost_of_a_region() {
    let median = |gap: Duration, region: &dyn Fn()| {
        let mut nanos: Vec<_> = (0..2000)
            .map(|_| {
                let start = Instant::now();
                while start.elapsed() < gap {
                    std::hint::spin_loop();
                }
                let start = Instant::now();
                region();
                start.elapsed().as_nanos()
            })
            .collect();
        nanos.sort_unstable();
        nanos[nanos.len() / 2]
    };
    let sink = AtomicU64::new(0);
    let work = |_| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(5) {
            sink.fetch_add(1, Relaxed);
        }
    };
    for gap in [0, 20, 200, 2000].map(Duration::from_micros) {
        let one = median(gap, &|| with_num_threads(1, || parallel_for(2, |i| _ = std::hint::black_box(i))));
        let empty = median(gap, &|| parallel_for(2, |i| _ = std::hint::black_box(i)));
        let busy = median(gap, &|| parallel_for(2, work));
        println!("gap {gap:?}: serial {one} ns, 2 empty tasks {empty} ns, 2 tasks of 5 us {busy} ns");
    }
    let start = Instant::now();
    phases(10_000, |_| 8, |_, i| _ = std::hint::black_box(i));
    println!("a phase of 8 empty tasks: {} ns", start.elapsed().as_nanos() / 10_000);
    let start = Instant::now();
    phases(1000, |_| 2, |_, i| work(i));
    println!("a phase of 2 tasks of 5 us: {} ns", start.elapsed().as_nanos() / 1000);
}
