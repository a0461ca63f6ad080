//! A folder of class folders, decoded image by image.

use std::path::{Path, PathBuf};

use super::DatasetError;
use crate::image::Image;

/// The files of a folder of class folders: by class folder, then by name, so that a set always has the same order.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<(PathBuf, u32)>,
}

impl Files {
    pub(super) fn list(path: &Path, classes: &[String]) -> Result<Self, DatasetError> {
        let folders: Vec<PathBuf> = sorted(path)?.into_iter().filter(|p| p.is_dir()).collect();
        let labels = labels(path, &folders, classes)?;
        let mut files = Vec::new();
        for (folder, label) in folders.iter().zip(labels) {
            files.extend(
                sorted(folder)?
                    .into_iter()
                    .filter(|p| is_image(p))
                    .map(|p| (p, label)),
            );
        }
        if files.is_empty() {
            return Err(DatasetError::Empty {
                path: path.to_path_buf(),
            });
        }
        Ok(Self { files })
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn label(&self, index: usize) -> Option<u32> {
        self.files.get(index).map(|(_, label)| *label)
    }

    pub(super) fn image(&self, index: usize) -> Option<Result<Image, DatasetError>> {
        let (path, _) = self.files.get(index)?;
        Some(Image::open(path).map_err(DatasetError::from))
    }
}

/// The class of each folder: by name if every name is a class, else by order if the counts agree.
fn labels(path: &Path, folders: &[PathBuf], classes: &[String]) -> Result<Vec<u32>, DatasetError> {
    let name = |folder: &Path| {
        folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut by_name = Vec::with_capacity(folders.len());
    let mut unknown = None;
    for folder in folders {
        let name = name(folder);
        match classes.iter().position(|class| *class == name) {
            Some(class) => by_name.push(class as u32),
            None => unknown = unknown.or(Some(name)),
        }
    }
    match unknown {
        None => Ok(by_name),
        Some(_) if folders.len() == classes.len() => Ok((0..classes.len() as u32).collect()),
        Some(unknown) => Err(DatasetError::Classes {
            path: path.to_path_buf(),
            found: folders.len(),
            unknown,
            classes: classes.len(),
        }),
    }
}

/// The entries of a folder by name, without hidden ones.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| DatasetError::read(folder, e))? {
        let entry = entry.map_err(|e| DatasetError::read(folder, e))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    matches!(extension.as_str(), "jpg" | "jpeg" | "png" | "webp" | "bmp") && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;

    fn folders(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (i, name) in names.iter().enumerate() {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            image::RgbImage::from_pixel(4, 4, image::Rgb([i as u8; 3]))
                .save(folder.join("a.PNG"))
                .unwrap();
            std::fs::write(folder.join("notes.txt"), "not an image").unwrap();
        }
        root
    }

    fn classes(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn names_decide_where_they_are_the_models() {
        let root = folders(&["bee", "ant"]);
        let set = Dataset::open(root.path(), &classes(&["bee", "cow", "ant"])).unwrap();
        assert_eq!(
            (set.len(), set.label(0), set.label(1)),
            (2, Some(2), Some(0))
        );
        assert_eq!(set.image(0).unwrap().pixels()[0], 1); // "ant" was written second
    }

    #[test]
    fn order_decides_where_the_counts_agree() {
        let root = folders(&["n02", "n01"]);
        let set = Dataset::open(root.path(), &classes(&["bee", "ant"])).unwrap();
        assert_eq!(
            (set.label(0), set.image(0).unwrap().pixels()[0]),
            (Some(0), 1)
        );
    }

    #[test]
    fn folders_that_fit_no_class_are_refused_by_name() {
        let root = folders(&["ant", "zebu"]);
        let error = Dataset::open(root.path(), &classes(&["ant", "bee", "cow"])).unwrap_err();
        assert!(
            matches!(&error, DatasetError::Classes { unknown, .. } if unknown == "zebu"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_images_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let error = Dataset::open(root.path(), &classes(&["ant"])).unwrap_err();
        assert!(matches!(error, DatasetError::Empty { .. }), "{error}");
    }

    #[test]
    fn a_broken_image_is_found_when_it_is_decoded_and_named() {
        let root = folders(&["ant"]);
        std::fs::write(root.path().join("ant/b.jpg"), b"not a jpeg").unwrap();
        let set = Dataset::open(root.path(), &classes(&["ant"])).unwrap();
        assert_eq!(set.len(), 2);
        assert!(set.image(1).unwrap_err().to_string().contains("b.jpg"));
    }
}
