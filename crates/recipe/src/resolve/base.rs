//! The model a recipe starts from: which of four forms its `base:` has, and whether the files exist.

use std::path::Path;

use crate::plan::Base;
use crate::raw::RawBase;
use crate::resolve::Resolver;

impl Resolver<'_> {
    pub(super) fn base(&mut self, written: &RawBase) -> Base {
        match written {
            RawBase::FromScratch(base) => {
                let folder = self.input(self.scratch_key(), &base.from_scratch);
                for needed in ["config.json", "tokenizer.json"] {
                    if !folder.join(needed).is_file() {
                        let message = format!("no such file: {}", folder.join(needed).display());
                        let hint = "training from scratch needs config.json and tokenizer.json in that folder";
                        self.refuse_value(self.scratch_key(), message, Some(hint.to_owned()));
                    }
                }
                Base::FromScratch(folder)
            }
            RawBase::Named(text) => self.named_base(text),
        }
    }

    /// The key as it is written: earlier versions called it `fresh`.
    fn scratch_key(&self) -> &'static str {
        let base = self.source.tree.get("base");
        match base.and_then(|base| base.get("fresh")) {
            Some(_) => "base.fresh",
            None => "base.from_scratch",
        }
    }

    fn named_base(&mut self, text: &str) -> Base {
        let path = self.input("base", Path::new(text));
        if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
        {
            if !path.is_file() {
                self.refuse_value("base", format!("no such file: {}", path.display()), None);
            }
            return Base::Gguf(path);
        }
        if path.is_dir() && !text.is_empty() {
            if !path.join("config.json").is_file() {
                self.refuse_value(
                    "base",
                    format!("{} is not a model folder: it has no config.json", path.display()),
                    None,
                );
            } else if !holds_weights(&path) {
                let message = format!("{} has no .safetensors file", path.display());
                let hint = format!("to start from initialized weights, write `base: {{ from_scratch: {text} }}`");
                self.refuse_value("base", message, Some(hint));
            }
            return Base::Folder(path);
        }
        let looks_like_path = text.starts_with(['.', '/', '~']) || text.matches('/').count() > 1;
        if let Some((id, revision)) = hub_id(text).filter(|_| !looks_like_path) {
            return Base::Hub { id, revision };
        }
        let message = if looks_like_path {
            format!("no such folder: {}", path.display())
        } else {
            format!("`base` must be a hub id, a model folder or a .gguf file, found `{text}`")
        };
        let hint = if text.starts_with('~') {
            "`~` is not expanded here; write the path out"
        } else if looks_like_path {
            "if another recipe makes this model, run that one first; hub ids have the form organization/name"
        } else {
            "hub ids have the form organization/name, such as Qwen/Qwen2.5-3B-Instruct"
        };
        self.refuse_value("base", message, Some(hint.to_owned()));
        Base::Folder(path)
    }
}

/// `organization/name`, optionally `@revision`.
pub(crate) fn hub_id(text: &str) -> Option<(String, Option<String>)> {
    let (id, revision) = match text.split_once('@') {
        Some((id, revision)) if !revision.is_empty() => (id, Some(revision.to_owned())),
        Some(_) => return None,
        None => (text, None),
    };
    let (organization, name) = id.split_once('/')?;
    let plain = |part: &str| {
        part.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    (plain(organization) && plain(name)).then(|| (id.to_owned(), revision))
}

fn holds_weights(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "safetensors")
        })
    })
}
