//! The one layer of an image: a tar of files and the folders above them, sorted, owned by 0:0, of the time 0.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use tar::{Builder, EntryType, Header};

/// A file with its content.
pub struct Entry {
    /// Absolute, in the image.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Bytes.
    pub content: Vec<u8>,
}

const FOLDER_MODE: u32 = 0o755;

/// The layer's bytes.
pub fn pack(files: Vec<Entry>) -> Result<Vec<u8>> {
    let mut by_path: BTreeMap<String, Option<Entry>> = BTreeMap::new();
    for file in files {
        let path = relative(&file.path)?.to_owned();
        for (end, _) in path.match_indices('/') {
            by_path.entry(path[..=end].to_owned()).or_insert(None);
        }
        if by_path.insert(path, Some(file)).is_some() {
            bail!("two files have the same path");
        }
    }
    let mut tar = Builder::new(Vec::new());
    for (path, file) in by_path {
        match file {
            Some(Entry { mode, content, .. }) => {
                append(&mut tar, &path, EntryType::Regular, mode, &content)?;
            }
            None => append(&mut tar, &path, EntryType::Directory, FOLDER_MODE, &[])?,
        }
    }
    tar.into_inner().context("cannot end a tar")
}

/// Adds one entry that depends on nothing but its arguments.
pub fn append(
    tar: &mut Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(u64::try_from(content.len())?);
    tar.append_data(&mut header, path, content).with_context(|| format!("cannot pack {path}"))
}

fn relative(path: &str) -> Result<&str> {
    let relative = path.strip_prefix('/').with_context(|| format!("{path} is not absolute"))?;
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    ensure!(relative.split('/').all(plain), "{path} is no plain path of a file");
    Ok(relative)
}
