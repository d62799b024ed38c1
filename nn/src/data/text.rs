//! Text as numbers: a vocabulary of characters, and windows for training recurrent networks on a long text.

use tensor::{Device, Error, Result, Tensor};

/// The distinct characters of a text, in order, and their numbers.
///
/// ```
/// use gradus_nn::data::CharVocab;
/// # fn main() -> tensor::Result<()> {
/// let vocab = CharVocab::of("banana");
/// assert_eq!(vocab.encode("nab")?, [2, 0, 1]);
/// assert_eq!(vocab.decode(&[1, 0, 2])?, "ban");
/// assert!(vocab.encode("bandana").unwrap_err().to_string().contains("'d'"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharVocab {
    chars: Vec<char>,
}

impl CharVocab {
    /// The characters that a text has.
    pub fn of(text: &str) -> CharVocab {
        let mut seen: Vec<char> =
            text.chars().collect::<std::collections::HashSet<_>>().into_iter().collect();
        seen.sort_unstable();
        CharVocab { chars: seen }
    }

    /// How many characters it has.
    pub fn len(&self) -> usize {
        self.chars.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    /// The characters; the position of each is its number.
    pub fn chars(&self) -> &[char] {
        &self.chars
    }

    /// The number of each character.
    ///
    /// # Errors
    /// When a character is not in the vocabulary: the message says which and where.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let number = |(at, c): (usize, char)| {
            self.chars.binary_search(&c).map(|i| i as i64).map_err(|_| {
                let message = format!("{c:?} at byte {at} is not among the {} characters", self.len());
                Error::argument("encode", message)
            })
        };
        text.char_indices().map(number).collect()
    }

    /// The characters of these numbers.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn decode(&self, tokens: &[i64]) -> Result<String> {
        let char = |&token: &i64| {
            let found = usize::try_from(token).ok().and_then(|i| self.chars.get(i));
            found.copied().ok_or_else(|| Error::index("decode", token, self.len()))
        };
        tokens.iter().map(char).collect()
    }
}

/// A few steps of several streams: what goes in and what should come out, `int64`, `[t, n]`.
#[derive(Clone, Debug)]
pub struct TextWindow {
    /// The tokens.
    pub inputs: Tensor,
    /// The tokens that follow them.
    pub targets: Tensor,
}

/// A long text as windows for truncated backpropagation through time.
///
/// The text is cut into `n` streams that are read side by side. Column `j` of a window goes on where column `j` of the
/// window before ended, so the hidden state can be carried over. What does not fill a window is left out.
///
/// ```
/// use gradus_nn::data::TextWindows;
/// use tensor::Device;
/// # fn main() -> tensor::Result<()> {
/// let tokens: Vec<i64> = (0..11).collect();
/// let windows = TextWindows::new(&tokens, 2, 2, &Device::cpu())?;
/// assert_eq!(windows.len(), 2);
/// let second = windows.get(1)?;
/// assert_eq!(second.inputs.to_vec::<i64>()?, [2, 7, 3, 8]);
/// assert_eq!(second.targets.to_vec::<i64>()?, [3, 8, 4, 9]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TextWindows {
    /// `[length of a stream, n]`, so that windows are views.
    streams: Tensor,
    steps: usize,
    len: usize,
}

impl TextWindows {
    /// Windows of `steps` steps over `n` streams.
    ///
    /// # Errors
    /// When the text is too short for one window, or a number is 0.
    pub fn new(tokens: &[i64], n: usize, steps: usize, device: &Device) -> Result<TextWindows> {
        if n == 0 || steps == 0 {
            return Err(Error::argument("TextWindows", format!("{n} streams of {steps} steps hold nothing")));
        }
        let length = tokens.len() / n;
        if length <= steps {
            let message = format!(
                "{} tokens are too few for {n} streams of {steps} steps and the token that follows",
                tokens.len()
            );
            return Err(Error::argument("TextWindows", message));
        }
        let streams = Tensor::from_slice(&tokens[..n * length], [n, length], device)?.t()?.contiguous()?;
        Ok(TextWindows { streams, steps, len: (length - 1) / steps })
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: a text that is too short is an error.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The window at an index; a view, nothing is copied.
    ///
    /// # Errors
    /// When the index is out of range.
    pub fn get(&self, index: usize) -> Result<TextWindow> {
        if index >= self.len {
            return Err(Error::index("TextWindows", index as i64, self.len));
        }
        let from = |start| self.streams.narrow(0, start, self.steps);
        Ok(TextWindow { inputs: from(index * self.steps)?, targets: from(index * self.steps + 1)? })
    }

    /// The windows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<TextWindow>> + '_ {
        (0..self.len).map(|i| self.get(i))
    }
}
