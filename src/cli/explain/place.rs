//! The folder that pictures are written to.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use gabor::{
    explain::Picture,
    train::{check_writable, write_whole},
};
use image::{ExtendedColorType, ImageFormat, write_buffer_with_format};

/// The page, by which a folder is known to be of this command.
pub const PAGE: &str = "explain.html";

/// The folder that pictures are written to.
pub struct Place {
    folder: PathBuf,
    /// Whether it is this command's, so that what it holds may be replaced.
    own: bool,
}

/// A picture that was written.
pub struct Drawn {
    pub path: PathBuf,
    pub picture: Picture,
}

impl Place {
    /// The folder that is asked for, or else `explain` beside a weights file. It is made where it is not there yet.
    pub fn new(given: Option<&Path>, weights: &Path) -> Result<Self> {
        let folder = given.map_or_else(|| weights.with_file_name("explain"), Path::to_path_buf);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        check_writable(&folder.join(PAGE))?;
        let own = given.is_none() || folder.join(PAGE).exists();
        Ok(Self { folder, own })
    }

    /// Writes a file of this name, and gives its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        ensure!(
            self.own || !path.exists(),
            "{} is there already, and {} holds no {PAGE} of this command: give another --out, so that nothing is replaced",
            path.display(),
            self.folder.display()
        );
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        write_whole(&path, bytes)?;
        Ok(path)
    }

    /// Writes a picture of this name.
    pub fn draw(&self, name: &str, picture: Picture) -> Result<Drawn> {
        let path = self.write(name, &png(&picture).with_context(|| format!("cannot write {name}"))?)?;
        Ok(Drawn { path, picture })
    }
}

fn png(picture: &Picture) -> Result<Vec<u8>> {
    let colour = if picture.size.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let (width, height) = (u32::try_from(picture.size.width)?, u32::try_from(picture.size.height)?);
    let mut file = Cursor::new(Vec::new());
    write_buffer_with_format(&mut file, &picture.pixels, width, height, colour, ImageFormat::Png)?;
    Ok(file.into_inner())
}
