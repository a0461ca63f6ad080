//! Names the C library, and embeds compiled kernels: with `COLLAGE_EMBED_CUBINS=DIR`, the files of DIR that `collage compile --out DIR` has made, so
//! that the binary needs no compiler where it runs. Without it, none.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    name_library();
    println!("cargo::rerun-if-env-changed=COLLAGE_EMBED_CUBINS");
    let mut files: Vec<PathBuf> = Vec::new();
    if let Some(folder) = env::var_os("COLLAGE_EMBED_CUBINS").filter(|f| !f.is_empty()) {
        let folder = PathBuf::from(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        let folder = folder.canonicalize();
        match folder.and_then(|folder| fs::read_dir(&folder)) {
            Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path())),
            Err(error) => {
                println!("cargo::error=COLLAGE_EMBED_CUBINS: {error}");
                return;
            }
        }
        files.retain(|path| path.extension().is_some_and(|e| e == "cubin"));
        files.sort();
    }
    let mut list = String::from("static EMBEDDED: &[(&str, &[u8])] = &[\n");
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        list += &format!("    ({name:?}, include_bytes!({file:?})),\n");
    }
    list += "];\n";
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("embedded_cubins.rs"), list).expect("OUT_DIR can be written");
}

/// With the feature `capi`: a program that is linked to the library asks for it by this name ever after, which changes when
/// its binary interface does (COLLAGE_ABI_MAJOR in include/collage.h).
fn name_library() {
    let is_elf = env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|f| f == "unix")
        && env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|v| v != "apple");
    if env::var_os("CARGO_FEATURE_CAPI").is_some() && is_elf {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcollage.so.0");
    }
}
