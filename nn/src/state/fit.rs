//! Whether a file fits a model, and all that does not, in one message.

use super::Place;
use super::archive::Archive;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tensor::{Error, Result, Tensor};

/// How many names of a kind a message lists.
const LISTED: usize = 6;

/// What [`load_with`](super::load_with) lets pass.
pub struct LoadOptions {
    /// Whether names that are missing or unexpected are errors. Otherwise they are left alone and reported.
    pub strict: bool,
    /// Whether tensors of another dtype are converted to the model's: floats to floats, integers to integers.
    pub cast: bool,
    /// From the name in the file to that in the model.
    pub rename: Option<Box<dyn Fn(&str) -> String>>,
}

impl Default for LoadOptions {
    /// Strict: no conversion, no renames.
    fn default() -> Self {
        LoadOptions { strict: true, cast: false, rename: None }
    }
}

/// What did not take part in loading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Names of the model that the file does not have.
    pub missing: Vec<String>,
    /// Names of the file that the model does not have.
    pub unexpected: Vec<String>,
}

/// A place of the model and what goes there.
type Values<'p, 'a> = Vec<(&'p Place<'a>, Tensor)>;

/// The new values of a model's places, or an error that says all that does not fit.
pub(super) fn fit<'p, 'a>(
    places: &'p [Place<'a>],
    archive: &Archive,
    path: &Path,
    options: &LoadOptions,
) -> Result<(Values<'p, 'a>, Loaded)> {
    let mut by_name = HashMap::new();
    for stored in archive.names() {
        let name = options.rename.as_ref().map_or(stored.to_string(), |rename| rename(stored));
        if let Some(other) = by_name.insert(name.clone(), stored) {
            return Err(Error::file(path, format!("{other} and {stored} are both renamed to {name}")));
        }
    }
    let mut problems = Problems::default();
    let mut found: Vec<(&Place, &str)> = vec![];
    for place in places {
        match place.names.iter().find_map(|name| by_name.get(name)) {
            Some(stored) => found.push((place, stored)),
            None => problems.missing.push(place.names[0].clone()),
        }
    }
    let known: HashSet<&str> = places.iter().flat_map(|p| p.names.iter().map(String::as_str)).collect();
    problems.unexpected = by_name.keys().filter(|name| !known.contains(name.as_str())).cloned().collect();
    problems.unexpected.sort();
    for (place, stored) in &found {
        let name = &place.names[0];
        let value = place.target.value();
        let (shape, dtype) = match archive.describe(stored) {
            Ok(described) => described,
            Err(message) => {
                problems.unreadable.push(message);
                continue;
            }
        };
        if shape != value.shape() {
            problems.misshapen.push(format!("{name} {shape} (the model has {})", value.shape()));
        }
        let castable = options.cast && dtype.kind() == value.dtype().kind();
        if dtype != value.dtype() && !castable {
            problems.wrong_dtype.push(format!("{name} {dtype} (the model has {})", value.dtype()));
        }
    }
    if let Some(message) = problems.message(options) {
        return Err(Error::file(path, message));
    }
    let mut values = vec![];
    for (place, stored) in found {
        let old = place.target.value();
        let new = archive.tensor(stored, old.device()).map_err(|message| Error::file(path, message))?;
        values.push((place, new.to_dtype(old.dtype())?));
    }
    Ok((values, Loaded { missing: problems.missing, unexpected: problems.unexpected }))
}

/// All that does not fit.
#[derive(Default)]
struct Problems {
    missing: Vec<String>,
    unexpected: Vec<String>,
    misshapen: Vec<String>,
    wrong_dtype: Vec<String>,
    unreadable: Vec<String>,
}

impl Problems {
    fn message(&self, options: &LoadOptions) -> Option<String> {
        let mut parts = vec![];
        if options.strict && !self.missing.is_empty() {
            let hinted = |name: &String| match nearest(name, &self.unexpected) {
                Some(near) => format!("{name} (the file has {near})"),
                None => name.clone(),
            };
            let names: Vec<String> = self.missing.iter().take(LISTED).map(hinted).collect();
            parts.push(format!("missing {}", listed(&names, self.missing.len())));
        }
        if options.strict && !self.unexpected.is_empty() {
            parts.push(format!("unexpected {}", listed(&self.unexpected, self.unexpected.len())));
        }
        if !self.misshapen.is_empty() {
            parts.push(format!("misshapen {}", listed(&self.misshapen, self.misshapen.len())));
        }
        if !self.wrong_dtype.is_empty() {
            let hint = if options.cast { "" } else { ", which LoadOptions { cast: true } converts" };
            parts.push(format!(
                "of another dtype {}{hint}",
                listed(&self.wrong_dtype, self.wrong_dtype.len())
            ));
        }
        parts.extend(self.unreadable.iter().take(LISTED).cloned());
        (!parts.is_empty()).then(|| format!("does not fit the model: {}", parts.join("; ")))
    }
}

/// The first names, and how many more there are.
fn listed(names: &[String], total: usize) -> String {
    let shown = names.len().min(LISTED);
    let list = names[..shown].join(", ");
    if total > shown { format!("{list} and {} more", total - shown) } else { list }
}

/// The name that is most like another, if at least half of it is alike.
fn nearest<'n>(name: &str, candidates: &'n [String]) -> Option<&'n str> {
    // Bounds that no real model meets: a hostile file must not make a message expensive.
    let candidates = candidates.iter().take(4096).filter(|c| c.len() <= 256);
    let near = candidates.map(|c| (edit_distance(name, c), c)).min()?;
    (near.0 * 2 <= name.len().max(near.1.len())).then_some(near.1.as_str())
}

/// How many bytes to insert, delete or replace to get from one to the other (Levenshtein, 1966).
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + (x != y) as usize;
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_are_those_of_textbooks() {
        for (a, b, distance) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2)]
        {
            assert_eq!(edit_distance(a, b), distance);
        }
    }

    #[test]
    fn names_that_have_little_in_common_are_not_near() {
        let names = ["fc.weight".to_string(), "conv.bias".to_string()];
        assert_eq!(nearest("fc1.weight", &names), Some("fc.weight"));
        assert_eq!(nearest("embedding", &names), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
