//! What the C interface costs a request beyond the Rust one: the same requests through both, in turn.
//! `cargo bench --bench ffi`; with `-- --test`, and under `cargo test`, it runs briefly and times nothing.
//!
//! Two engines of the embedded digits with the same settings, on one thread each. A request is an 8x8 tensor in the caller's
//! memory: copied, submitted, waited for, its best class read, and let go. Requests of the two take turns, so that whatever
//! else this machine does meets both alike. Each answer is compared first. Two lines more are of what the boundary alone
//! does: a call that is refused at once, and a submission without its wait.

use std::ffi::c_char;
use std::ptr;
use std::time::{Duration, Instant};

use collage::config::{Layer, Settings};
use collage::embedded;
use collage::engine::{Engine, RequestOptions};
use collage::ffi;
use collage::ffi::types::{Answer, FOREVER, Handle, Options, Picture, U8};
use collage::image::Image;

const SETTINGS: &str = "device = \"cpu:1\"\npolicy = \"none\"\nmax_batch = 1\ncollage_workers = 0\nqueue = 100000\ndeadline = \"60s\"\n";

fn rust_engine() -> Engine {
    let layer = Layer::parse("settings", SETTINGS).expect("settings");
    let settings = Settings::resolve(layer).expect("settings");
    let options = settings.options(|| Ok((embedded::base()?, None)));
    Engine::open(options.expect("options")).expect("opens")
}

fn c_engine() -> Handle {
    let toml = std::ffi::CString::new(SETTINGS).expect("no zero inside");
    let options = Options {
        toml: toml.as_ptr(),
        ..Options::default()
    };
    let mut engine = ptr::null_mut();
    // SAFETY: both live through the call.
    let status = unsafe { ffi::collage_engine_open(&options, &mut engine) };
    assert_eq!(status, 0);
    engine
}

fn picture(pixels: &[u8]) -> Picture {
    Picture {
        data: pixels.as_ptr().cast(),
        size: pixels.len(),
        r#type: U8,
        dimensions: 3,
        shape: [8, 8, 3, 0],
        ..Picture::default()
    }
}

fn through_rust(engine: &Engine, pixels: &[u8]) -> u32 {
    let image = Image::from_tensor([8, 8, 3], pixels).expect("an image");
    let ticket = engine.submit(image, RequestOptions::default());
    let answer = ticket.and_then(|t| t.wait()).expect("an answer");
    answer.top[0].class
}

fn through_c(engine: Handle, pixels: &[u8]) -> u32 {
    let (image, mut answer) = (picture(pixels), Answer::default());
    let mut ticket = ptr::null_mut();
    // SAFETY: everything lives through the calls, and the ticket is freed once.
    unsafe {
        let submitted = ffi::collage_submit(engine, &image, ptr::null(), &mut ticket);
        let waited = ffi::collage_ticket_wait(ticket, FOREVER, &mut answer);
        let freed = ffi::collage_ticket_free(ticket);
        assert_eq!((submitted, waited, freed), (0, 0, 0));
    }
    answer.class_index
}

/// Middle of the values, and the middle of their distances from it.
fn spread(mut values: Vec<f64>) -> (f64, f64) {
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let median = middle(&mut values);
    let mut distances: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
    (median, middle(&mut distances))
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn timed(mut work: impl FnMut() -> u32) -> (f64, u32) {
    let began = Instant::now();
    let class = work();
    (us(began.elapsed()), class)
}

fn main() {
    let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let is_test = !given("--bench") || given("--test");
    let rounds = if is_test { 100 } else { 40_000 };
    let digits = embedded::held_out().expect("embedded");
    let digits: Vec<Image> = (0..digits.len())
        .map(|i| digits.image(i).expect("decodes"))
        .collect();
    let (rust, c) = (rust_engine(), c_engine());
    for digit in &digits {
        assert_eq!(
            through_rust(&rust, digit.pixels()),
            through_c(c, digit.pixels())
        );
    }
    let (mut of_rust, mut of_c, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for (round, digit) in digits.iter().cycle().take(rounds).enumerate() {
        let rust_once = || timed(|| through_rust(&rust, digit.pixels()));
        let c_once = || timed(|| through_c(c, digit.pixels()));
        // Who comes first takes turns too.
        let ((r, _), (f, _)) = if round % 2 == 0 {
            let r = rust_once();
            (r, c_once())
        } else {
            let f = c_once();
            (rust_once(), f)
        };
        of_rust.push(r);
        of_c.push(f);
        differences.push(f - r);
    }
    let submissions = submissions(&rust, c, &digits, if is_test { 10 } else { 400 });
    let refusal = refusals(if is_test { 100 } else { 1_000_000 });
    let freed = ffi::collage_engine_free(c);
    assert_eq!(freed, 0);
    if is_test {
        return;
    }
    println!("{rounds} requests each, one at a time, us         median   median deviation");
    for (name, values) in [
        ("submitted and waited for in Rust", of_rust),
        ("submitted and waited for in C", of_c),
        ("difference of neighbours", differences),
    ] {
        let (median, deviation) = spread(values);
        println!("{name:44} {median:12.3} {deviation:12.3}");
    }
    println!(
        "submission alone, in Rust                    {:12.3}",
        submissions[0]
    );
    println!(
        "submission alone, in C                       {:12.3}",
        submissions[1]
    );
    println!("a call that is refused                       {refusal:12.3}");
}

/// Microseconds of a submission, of bursts of 100 that are waited for outside the time; the median burst's.
fn submissions(rust: &Engine, c: Handle, digits: &[Image], bursts: usize) -> [f64; 2] {
    const BURST: usize = 100;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..bursts {
        let began = Instant::now();
        let tickets: Vec<_> = digits[..BURST]
            .iter()
            .map(|digit| {
                let image = Image::from_tensor([8, 8, 3], digit.pixels()).expect("an image");
                rust.submit(image, RequestOptions::default())
                    .expect("accepted")
            })
            .collect();
        times[0].push(us(began.elapsed()) / BURST as f64);
        tickets.into_iter().for_each(|t| drop(t.wait()));
        let began = Instant::now();
        let mut tickets = [ptr::null_mut(); BURST];
        for (digit, ticket) in digits.iter().zip(&mut tickets) {
            let image = picture(digit.pixels());
            // SAFETY: everything lives through the call.
            let status = unsafe { ffi::collage_submit(c, &image, ptr::null(), ticket) };
            assert_eq!(status, 0);
        }
        times[1].push(us(began.elapsed()) / BURST as f64);
        for ticket in tickets {
            // SAFETY: no answer is wanted, and each ticket is freed once.
            let status = unsafe { ffi::collage_ticket_wait(ticket, FOREVER, ptr::null_mut()) };
            assert_eq!((status, ffi::collage_ticket_free(ticket)), (0, 0));
        }
    }
    times.map(|values| spread(values).0)
}

/// Microseconds of a call that fails, with its message read.
fn refusals(calls: u32) -> f64 {
    let began = Instant::now();
    for _ in 0..calls {
        assert_eq!(ffi::collage_ticket_cancel(ptr::null_mut()), 600);
        let message: *const c_char = ffi::collage_last_error();
        assert!(!message.is_null());
    }
    us(began.elapsed()) / f64::from(calls)
}
