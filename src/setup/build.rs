//! Cargo builds and runs this before the crate. It packs the files that the binary contains, so that copying one file
//! is an installation.
//!
//! The manual pages and the files that `src/setup/installed` names become one deflated stream, with a table of their
//! names and lengths. The same input gives the same bytes.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use miniz_oxide::deflate::compress_to_vec;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut table = String::from("const TABLE: &[(&str, usize)] = &[\n");
    let mut bytes = Vec::new();
    for name in names(&root)? {
        let text =
            fs::read_to_string(root.join(&name)).map_err(|error| format!("{name}: {error}"))?;
        println!("cargo::rerun-if-changed={name}");
        table.push_str(&format!("    ({name:?}, {}),\n", text.len()));
        bytes.extend_from_slice(text.as_bytes());
    }
    table.push_str("];\n");
    fs::write(out.join("carried.rs"), table)?;
    fs::write(out.join("carried.deflate"), compress_to_vec(&bytes, BEST))?;
    println!("cargo::rerun-if-changed=man");
    println!("cargo::rerun-if-changed={INSTALLED}");
    println!("cargo::rerun-if-changed=src/setup/build.rs");
    Ok(())
}

/// The files that are packed, in the order of their names: that of a folder is another on each machine.
fn names(root: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = vec![INSTALLED.to_owned()];
    for entry in fs::read_dir(root.join("man"))? {
        let name = entry?
            .file_name()
            .into_string()
            .map_err(|_| "man/: a name is not UTF-8")?;
        let section = name.rsplit('.').next().unwrap_or_default();
        if matches!(section.as_bytes(), [b'1'..=b'8']) {
            names.push(format!("man/{name}"));
        }
    }
    let installed = fs::read_to_string(root.join(INSTALLED))?;
    let lines = installed.lines().filter(|line| !line.starts_with('#'));
    names.extend(
        lines
            .filter_map(|line| line.split_ascii_whitespace().nth(1))
            .map(str::to_owned),
    );
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

const INSTALLED: &str = "src/setup/installed";
const BEST: u8 = 10;
