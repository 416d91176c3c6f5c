//! Writes the `newc` form of cpio archives, which the kernel unpacks as its first root file system. Pure.
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;
const LINK: u32 = 0o120_000;

/// An archive under construction.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A folder; those above it must be there already.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// A file with its permission bits.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, FILE | mode, (0, 0), content);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// A character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, DEVICE | 0o600, (major, minor), &[]);
    }

    /// The archive's bytes, ended and padded. Archives may follow one another in one file.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, uid, gid, links, mtime, size, major and minor of the file system, of the device, name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_have_the_header_of_the_format_and_are_padded() {
        let mut archive = Archive::default();
        archive.directory("etc");
        archive.file("etc/a", 0o644, b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with("07070100000001000041ed"), "{text}");
        assert_eq!(bytes.len() % 4, 0);
        let file = text.find("070701000000020000").unwrap();
        assert_eq!(&text[file + 6 + 8..file + 6 + 16], "000081a4");
        assert_eq!(&text[file + 6 + 48..file + 6 + 56], "00000005");
        assert_eq!(&text[file + 110..file + 110 + 6], "etc/a\0");
        assert_eq!(&text[file + 116..file + 116 + 5], "hello");
        assert!(text.contains("TRAILER!!!"));
    }
}
