//! What a program itself says that is in it: code that can panic names its source file, and with it the package that it came from.
//! So a document that forgets a package of any size is found out.

use std::collections::BTreeSet;

/// Packages, as `name-version`, of whose sources in Cargo's registry the program has the path.
pub fn packages(program: &[u8]) -> BTreeSet<String> {
    const BEFORE: &[u8] = b"/registry/src/";
    let mut found = BTreeSet::new();
    let mut rest = program;
    while let Some(at) = rest.windows(BEFORE.len()).position(|window| window == BEFORE) {
        rest = rest.split_at(at + BEFORE.len()).1;
        let line = rest.split(|&byte| byte == 0).next().unwrap_or_default();
        // The registry's folder, the package's, and the file in it.
        let mut parts = line.splitn(3, |&byte| byte == b'/');
        if let (Some(_), Some(package), Some(_)) = (parts.next(), parts.next(), parts.next())
            && let Ok(package) = str::from_utf8(package)
        {
            found.insert(package.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_registry_are_found_among_other_bytes() {
        let program = b"\0/home/x/.cargo/registry/src/index-1/bytes-1.11.1/src/lib.rs/home/x/.cargo/registry/src/\
                        index-1/serde_json-1.0.1/src/de.rs\0\xff/registry/src/index-1\0/rustc/abc/library/core/src/x.rs";
        let expected = ["bytes-1.11.1", "serde_json-1.0.1"].map(str::to_owned);
        assert_eq!(packages(program), BTreeSet::from(expected));
    }
}
