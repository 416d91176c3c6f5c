//! Kernel files that are read again and again: kept descriptors, one reused buffer, and the parsing of what they say.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Reads files whole, into one buffer that only ever grows.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; 8 * 1024] }
    }

    /// Reads an open file from offset 0. kernfs regenerates the content on each such read.
    pub(crate) fn read(&mut self, file: &OwnedFd) -> io::Result<&[u8]> {
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                self.buffer.resize(length * 2, 0);
            }
            let Some(free) = self.buffer.get_mut(length..) else { break };
            match rustix::io::pread(file, free, length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.buffer.get(..length).unwrap_or_default())
    }
}

/// A file that may not exist, with its descriptor kept open if the budget allows.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Open.
    Open(OwnedFd),
    /// Opened for each read: there are more files than descriptors.
    Path(PathBuf),
    /// The cgroup has no such file: its controller is not enabled.
    Absent,
}

impl Kept {
    /// Opens `path`, taking one descriptor from `budget`.
    pub(crate) fn open(path: PathBuf, budget: &mut usize) -> io::Result<Self> {
        match open(&path) {
            Ok(_) if *budget == 0 => Ok(Self::Path(path)),
            Ok(file) => {
                *budget -= 1;
                Ok(Self::Open(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Absent),
            Err(error) => Err(error),
        }
    }

    /// The content; `None` if the file does not exist.
    pub(crate) fn read<'r>(&self, reader: &'r mut Reader) -> io::Result<Option<&'r [u8]>> {
        match self {
            Self::Open(file) => reader.read(file).map(Some),
            Self::Path(path) => reader.read(&open(path)?).map(Some),
            Self::Absent => Ok(None),
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The number behind `key` in lines of `key value`, also of `Key: value kB`.
pub(crate) fn value(text: &[u8], key: &str) -> Option<u64> {
    lines(text).find_map(|line| {
        let rest = line.strip_prefix(key.as_bytes())?;
        let rest = rest.strip_prefix(b":").unwrap_or(rest);
        match rest.first() {
            Some(b' ' | b'\t') => number(rest),
            _ => None,
        }
    })
}

/// The lines of a text.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// The first run of digits, after blanks.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Kept, Reader, number, value};

    #[test]
    fn values_are_found_by_their_whole_key() {
        let text = b"usage_usec 12\nuser_usec 7\nanon 4096\nfile_mapped 1\nfile 8192\ninactive_file 3\n";
        assert_eq!(value(text, "usage_usec"), Some(12));
        assert_eq!(value(text, "file"), Some(8192));
        assert_eq!(value(text, "inactive"), None);
        assert_eq!(value(text, "fil"), None);
        assert_eq!(value(b"SwapTotal:       2048 kB\n", "SwapTotal"), Some(2048));
        assert_eq!(number(b"max\n"), None);
        assert_eq!(number(b"99999999999999999999\n"), None);
    }

    #[test]
    fn a_file_longer_than_the_buffer_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long");
        std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
        let mut reader = Reader::new();
        let mut budget = 1;
        let kept = Kept::open(path.clone(), &mut budget).unwrap();
        assert!(kept.is_open());
        assert_eq!(kept.read(&mut reader).unwrap().unwrap().len(), 100_000);
        let late = Kept::open(path, &mut budget).unwrap();
        assert!(!late.is_open());
        assert_eq!(late.read(&mut reader).unwrap().unwrap().len(), 100_000);
        let absent = Kept::open(directory.path().join("none"), &mut budget).unwrap();
        assert!(absent.read(&mut reader).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text in proptest::collection::vec(any::<u8>(), 0..300), key in "[a-z_]{0,8}") {
            let _ = value(&text, &key);
            let _ = number(&text);
        }

        #[test]
        fn what_is_written_is_found(key in "[a-z_]{1,12}", written in any::<u64>()) {
            let text = format!("other 1\n{key} {written}\n");
            prop_assume!(key != "other");
            prop_assert_eq!(value(text.as_bytes(), &key), Some(written));
        }
    }
}
