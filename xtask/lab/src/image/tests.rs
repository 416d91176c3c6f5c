//! Reads the archives back as a container runtime does, from the index down. What containerd itself says of them is
//! tested on real nodes.

use std::{collections::BTreeMap, io::Read as _};

use object::{
    elf::{EM_AARCH64, EM_X86_64, ET_EXEC, PT_INTERP, PT_LOAD},
    write::elf::{FileHeader, ProgramHeader, Writer},
};
use serde_json::Value;
use tar::EntryType;

use super::*;

/// The headers of a program of one segment.
fn program(machine: u16, segment: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(object::Endianness::Little, true, &mut bytes);
    writer.reserve_file_header();
    writer.reserve_program_headers(1);
    let header = FileHeader {
        os_abi: 0,
        abi_version: 0,
        e_type: ET_EXEC,
        e_machine: machine,
        e_entry: 0x40_0000,
        e_flags: 0,
    };
    writer.write_file_header(&header).unwrap();
    writer.write_program_header(&ProgramHeader {
        p_type: segment,
        p_flags: 5,
        p_offset: 0,
        p_vaddr: 0x40_0000,
        p_paddr: 0,
        p_filesz: 0,
        p_memsz: 0,
        p_align: 0x1000,
    });
    bytes
}

struct Packed {
    archive: Archive,
    bytes: Vec<u8>,
    dir: tempfile::TempDir,
    image: Image,
}

fn pack(program: &[u8]) -> Packed {
    let dir = tempfile::tempdir().unwrap();
    let (binary, note) = (dir.path().join("binary"), dir.path().join("note"));
    fs::write(&binary, program).unwrap();
    fs::write(&note, "a note").unwrap();
    let note = ImageFile { path: "/usr/share/doc/note".to_owned(), from: note, mode: 0o644 };
    let image = Image {
        name: "waggle.local/one:1.2.3".to_owned(),
        files: vec![note, ImageFile::program("/one", binary)],
        entrypoint: vec!["/one".to_owned(), "first".to_owned()],
        command: vec!["second".to_owned()],
        user: "65532:65532".to_owned(),
        labels: BTreeMap::from([("org.opencontainers.image.title".to_owned(), "one".to_owned())]),
    };
    let into = dir.path().join("made/one.tar");
    let archive = image.write(&into).unwrap();
    Packed { archive, bytes: fs::read(into).unwrap(), dir, image }
}

struct Read {
    kind: EntryType,
    mode: u32,
    content: Vec<u8>,
}

/// The entries of a tar by path; each must have the time 0 and the owner 0:0, and come in order.
fn unpack(bytes: &[u8]) -> BTreeMap<String, Read> {
    let mut paths = Vec::new();
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        assert_eq!((header.mtime().unwrap(), owner), (0, (0, 0)));
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        paths.push(path.clone());
        entries.insert(path, Read { kind, mode, content });
    }
    assert!(paths.is_sorted() && paths.len() == entries.len(), "{paths:?}");
    entries
}

/// What a descriptor points to, once its digest and size are found right.
fn follow<'a>(entries: &'a BTreeMap<String, Read>, descriptor: &Value, media_type: &str) -> &'a [u8] {
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let blob = &entries[&format!("blobs/sha256/{digest}")].content;
    assert_eq!(format!("{:#}", Digest::of(blob)), digest);
    assert_eq!(descriptor["size"].as_u64().unwrap(), blob.len() as u64);
    blob
}

#[test]
fn an_archive_is_read_from_the_index_down_to_the_program() {
    let binary = program(EM_X86_64, PT_LOAD);
    let Packed { archive, bytes, .. } = pack(&binary);
    let entries = unpack(&bytes);
    assert_eq!(entries["oci-layout"].content, br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&entries["index.json"].content).unwrap();
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let descriptor = &index["manifests"][0];
    assert_eq!(descriptor["platform"], serde_json::json!({"architecture": "amd64", "os": "linux"}));
    assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "waggle.local/one:1.2.3");
    assert_eq!(descriptor["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
    assert_eq!(descriptor["digest"], archive.digest.to_string());

    let manifest = follow(&entries, descriptor, "application/vnd.oci.image.manifest.v1+json");
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "one");
    let config = follow(&entries, &manifest["config"], "application/vnd.oci.image.config.v1+json");
    let config: Value = serde_json::from_slice(config).unwrap();
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["os"], "linux");
    let run = &config["config"];
    assert_eq!(run["User"], "65532:65532");
    assert_eq!(run["Entrypoint"], serde_json::json!(["/one", "first"]));
    assert_eq!(run["Cmd"], serde_json::json!(["second"]));
    assert_eq!(run["Labels"]["org.opencontainers.image.title"], "one");

    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    let layer = follow(&entries, &manifest["layers"][0], "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([Digest::of(layer).to_string()]));
    assert_eq!(layer.len(), archive.layer_bytes);
    let files = unpack(layer);
    let expected = ["one", "usr/", "usr/share/", "usr/share/doc/", "usr/share/doc/note"];
    assert_eq!(files.keys().collect::<Vec<_>>(), expected);
    assert_eq!((files["one"].kind, files["one"].mode), (EntryType::Regular, 0o755));
    assert!(files["one"].content == binary, "the program is not the file that was packed");
    assert_eq!((files["usr/"].kind, files["usr/"].mode), (EntryType::Directory, 0o755));
    assert_eq!(files["usr/share/doc/note"].mode, 0o644);
    // Three blobs, two folders, the index and the version: nothing that no descriptor names.
    assert_eq!(entries.len(), 7);
}

#[test]
fn the_same_files_give_the_same_bytes_and_others_do_not() {
    let binary = program(EM_X86_64, PT_LOAD);
    let first = pack(&binary);
    let second = pack(&binary);
    assert_ne!(first.dir.path(), second.dir.path());
    assert!(first.bytes == second.bytes && first.archive == second.archive);
    let mut turned = first.image.clone();
    turned.files.reverse();
    let again = turned.write(&first.dir.path().join("again.tar")).unwrap();
    assert_eq!(again, first.archive, "the order in which files are named");
    let other = pack(&[binary.as_slice(), b"x"].concat());
    assert_ne!(other.archive.digest, first.archive.digest);
}

#[test]
fn the_architecture_is_the_programs() {
    let Packed { archive, bytes, .. } = pack(&program(EM_AARCH64, PT_LOAD));
    assert_eq!(archive.architecture, Architecture::Arm64);
    let index: Value = serde_json::from_slice(&unpack(&bytes)["index.json"].content).unwrap();
    assert_eq!(index["manifests"][0]["platform"]["architecture"], "arm64");
}

#[test]
fn what_cannot_run_alone_is_refused_with_the_reason() {
    let Packed { dir, image, .. } = pack(&program(EM_X86_64, PT_LOAD));
    let refused = |image: &Image| format!("{:#}", image.write(&dir.path().join("x.tar")).unwrap_err());
    let with = |content: &[u8]| {
        fs::write(&image.files[1].from, content).unwrap();
        refused(&image)
    };
    assert!(with(b"#!/bin/sh\n").contains("no 64-bit ELF program"));
    assert!(with(&program(EM_X86_64, PT_INTERP)).contains("link it statically"));
    assert!(with(&program(40, PT_LOAD)).contains("ELF machine 40"));
    fs::write(&image.files[1].from, program(EM_X86_64, PT_LOAD)).unwrap();
    let changed = |change: fn(&mut Image)| {
        let mut image = image.clone();
        change(&mut image);
        refused(&image)
    };
    assert!(changed(|image| image.user = "nobody".to_owned()).contains("write numbers, uid:gid"));
    assert!(changed(|image| image.name = "waggle.local:5000/one".to_owned()).contains("has no tag"));
    assert!(changed(|image| image.entrypoint = vec!["/two".to_owned()]).contains("not among"));
    assert!(changed(|image| image.files[0].path = "relative".to_owned()).contains("not absolute"));
    assert!(changed(|image| image.files[0].path = "/a/../b".to_owned()).contains("no plain path"));
    assert!(changed(|image| image.files.push(image.files[0].clone())).contains("same path"));
}
