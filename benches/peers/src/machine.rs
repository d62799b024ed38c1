//! What machine this is: by its processor, never by its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A field of the first processor in /proc/cpuinfo.
fn field(name: &str) -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Vendor, family, model and cores, in words.
pub(crate) fn title() -> String {
    let or = |name: &str, other: &str| field(name).unwrap_or(other.to_string());
    let model = or("model name", std::env::consts::ARCH);
    format!("{model}, family {} model {}, {} cores", or("cpu family", "?"), or("model", "?"), cores())
}

/// The same, as a part of a file name.
fn slug() -> String {
    let vendor = match field("vendor_id").as_deref() {
        Some("AuthenticAMD") => "amd",
        Some("GenuineIntel") => "intel",
        _ => std::env::consts::ARCH,
    };
    let number = |name: &str| field(name).unwrap_or("0".to_string());
    format!("{vendor}-{}-{}-{}cores", number("cpu family"), number("model"), cores())
}

/// The day, in UTC, as year, month and day.
pub(crate) fn date() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() / 86_400) as i64;
    // Days to a date (Hinnant, "chrono-compatible low-level date algorithms"), with years from March to February.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + i64::from(month <= 2))
}

/// `benches/results/<machine>-<date>-<isa>.md`.
pub(crate) fn default_path(isa: &str) -> PathBuf {
    // Cargo sets it when it runs the program; a program moved elsewhere still finds its way from where it was built.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").to_string());
    Path::new(&here).join("../results").join(format!("{}-{}-{isa}.md", slug(), date()))
}

/// The version of a dependency, as the lock file has it.
pub(crate) fn version(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    // Of several, the newest stands last.
    let entry = lock.rsplit("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"\n")));
    entry.and_then(|e| e.split("version = \"").nth(1)).and_then(|rest| rest.split('"').next()).unwrap_or("?")
}
