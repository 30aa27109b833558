//! What an agent does to its host's disk, by what strace has seen of it.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::disk::{Id, Machine, Op};

/// All calls that change something, and those that say what a descriptor is. A question mark: not every machine has it.
const CALLS: &str = "openat,?open,?creat,write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,splice,ftruncate,\
                     truncate,fallocate,?mkdir,mkdirat,?mknod,mknodat,?rename,?renameat,renameat2,?link,linkat,?symlink,\
                     symlinkat,?unlink,unlinkat,?rmdir,?chmod,fchmod,fchmodat,?fchmodat2,?chown,?lchown,fchown,fchownat,\
                     setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,fsync,fdatasync,sync,syncfs,\
                     sync_file_range,ioctl";

/// What has strace write down what a program does to files.
pub(super) fn noting(log: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-qq", "-f", "-y", "-xx", "-s", "4000000", "-e", &format!("trace={CALLS}"), "-o"]).arg(log);
    command
}

/// A call that has returned well.
#[derive(Debug)]
pub(super) struct Call {
    process: String,
    name: String,
    arguments: Vec<String>,
    result: String,
}

/// The calls of a log, in the order in which they returned.
pub(super) fn read(log: &Path) -> Vec<Call> {
    let text = fs::read_to_string(log).unwrap();
    let (mut calls, mut begun) = (Vec::new(), HashMap::<String, String>::new());
    for line in text.lines() {
        let (process, said) = line.split_once(' ').unwrap();
        let said = said.trim_start();
        if let Some(beginning) = said.strip_suffix("<unfinished ...>") {
            begun.insert(process.to_owned(), beginning.trim_end().to_owned());
            continue;
        }
        let whole = match said.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, end)) => begun.remove(process).unwrap_or_default() + end,
            None => said.to_owned(),
        };
        calls.extend(Call::read(process, &whole));
    }
    calls
}

impl Call {
    /// None of a call that failed, and of what is no call.
    fn read(process: &str, text: &str) -> Option<Call> {
        let (name, rest) = text.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        if result.starts_with('-')
            || result.starts_with('?')
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return None;
        }
        let arguments = arguments.trim_end().strip_suffix(')')?;
        // Every byte of a text is written as a number: there are no other commas.
        let arguments = arguments.split(", ").map(str::to_owned).collect();
        Some(Call { process: process.to_owned(), name: name.to_owned(), arguments, result: result.to_owned() })
    }

    /// What it is about, in few words.
    pub(super) fn words(&self) -> String {
        let path = self.arguments.iter().find_map(|argument| text_of(argument)).unwrap_or_default();
        format!("{} {}", self.name, path.display())
    }

    pub(super) fn is_sync(&self) -> bool {
        matches!(&*self.name, "fsync" | "fdatasync" | "sync" | "syncfs")
    }
}

/// Plays calls on a machine.
pub(super) struct Player<'a> {
    /// The folder that stands for the machine's disk.
    pub(super) root: &'a Path,
    pub(super) machine: Machine,
    /// What descriptors stand for.
    held: HashMap<(String, String), PathBuf>,
}

impl<'a> Player<'a> {
    pub(super) fn new(root: &'a Path, machine: Machine) -> Self {
        Player { root, machine, held: HashMap::new() }
    }

    /// Plays a call. What is done elsewhere than on the disk is none of its business.
    pub(super) fn play(&mut self, call: &Call) {
        let at = |nth: usize| call.arguments[nth].as_str();
        match &*call.name {
            "openat" => self.open(call, 2),
            "open" => self.open(call, 1),
            "mkdir" => self.make(self.path(None, at(0)), |machine| machine.new_folder(octal(at(1)))),
            "mkdirat" => self.make(self.path(Some(at(0)), at(1)), |machine| machine.new_folder(octal(at(2)))),
            "symlink" => self.make(self.path(None, at(1)), |machine| machine.new_link(text(at(0)).into())),
            "symlinkat" => self.make(self.path(Some(at(1)), at(2)), |machine| machine.new_link(text(at(0)).into())),
            "link" => self.link(self.path(None, at(0)), self.path(None, at(1))),
            "linkat" => self.link(self.path(Some(at(0)), at(1)), self.path(Some(at(2)), at(3))),
            "rename" => self.rename(self.path(None, at(0)), self.path(None, at(1))),
            "renameat" | "renameat2" => self.rename(self.path(Some(at(0)), at(1)), self.path(Some(at(2)), at(3))),
            "unlink" | "rmdir" => self.remove(self.path(None, at(0))),
            "unlinkat" => self.remove(self.path(Some(at(0)), at(1))),
            "chmod" => self.mode(self.meant(call, None, at(0)), octal(at(1))),
            "fchmodat" | "fchmodat2" => self.mode(self.meant(call, Some(at(0)), at(1)), octal(at(2))),
            "fchmod" => self.mode(self.descriptor(at(0)), octal(at(1))),
            "chown" | "lchown" => self.owner(self.meant(call, None, at(0)), at(1), at(2)),
            "fchownat" => self.owner(self.meant(call, Some(at(0)), at(1)), at(2), at(3)),
            "fchown" => self.owner(self.descriptor(at(0)), at(1), at(2)),
            "setxattr" | "lsetxattr" => self.attribute(self.meant(call, None, at(0)), at(1), Some(at(2))),
            "removexattr" | "lremovexattr" => self.attribute(self.meant(call, None, at(0)), at(1), None),
            "write" => self.write(call),
            "ftruncate" => self.length(self.descriptor(at(0)), at(1).parse().unwrap()),
            "fsync" | "fdatasync" => {
                if let Some(id) = self.descriptor(at(0)).map(|path| self.id(&path)) {
                    self.machine.keeps(id);
                }
            }
            "sync" | "syncfs" => self.machine.keeps_all(),
            _ => assert!(!self.is_about_the_disk(call), "not known here: {call:?}"),
        }
    }

    fn is_about_the_disk(&self, call: &Call) -> bool {
        call.arguments.iter().any(|argument| self.descriptor(argument).is_some())
    }

    /// A path below the root, if a name in a folder leads there.
    fn path(&self, folder: Option<&str>, name: &str) -> Option<PathBuf> {
        let name = text(name);
        let folder = folder.and_then(text_of).unwrap_or_default();
        self.below(&folder.join(name))
    }

    fn below(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(self.root).ok().map(Path::to_owned)
    }

    /// What a descriptor stands for, if that has a name below the root.
    fn descriptor(&self, argument: &str) -> Option<PathBuf> {
        let path = text_of(argument).filter(|_| !argument.ends_with("(deleted)"))?;
        self.below(&path).filter(|path| self.machine.seen.find(path).is_some())
    }

    /// The same as [`Self::path`]; also by the name of a descriptor.
    fn meant(&self, call: &Call, folder: Option<&str>, name: &str) -> Option<PathBuf> {
        let plain = text(name);
        match plain.to_str().and_then(|name| name.strip_prefix("/proc/self/fd/")) {
            Some(number) => self.held.get(&(call.process.clone(), number.to_owned())).cloned(),
            None => self.path(folder, name),
        }
    }

    fn id(&self, path: &Path) -> Id {
        self.machine.seen.find(path).unwrap_or_else(|| panic!("nothing stands at {}", path.display()))
    }

    fn place(&self, path: &Path) -> (Id, OsString) {
        let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap());
        (self.id(folder), name.to_owned())
    }

    /// `flags` is the number of the argument that says how; what a new file gets comes after it.
    fn open(&mut self, call: &Call, flags: usize) {
        let key = |number: &str| (call.process.clone(), number.to_owned());
        let number = call.result.split('<').next().unwrap();
        let Some(path) = text_of(&call.result).and_then(|path| self.below(&path)) else {
            self.held.remove(&key(number));
            return;
        };
        self.held.insert(key(number), path.clone());
        let how = &call.arguments[flags];
        match self.machine.seen.find(&path) {
            None => {
                assert!(how.contains("O_CREAT"), "{call:?}");
                self.make(Some(path), |machine| machine.new_file(octal(&call.arguments[flags + 1])));
            }
            Some(id) if how.contains("O_TRUNC") => self.machine.does(Op::Length { id, bytes: 0 }),
            Some(_) => {}
        }
    }

    fn make(&mut self, path: Option<PathBuf>, new: impl FnOnce(&mut Machine) -> Id) {
        let Some(path) = path else { return };
        let (folder, name) = self.place(&path);
        let id = new(&mut self.machine);
        self.machine.does(Op::Name { folder, name, to: Some(id) });
    }

    fn link(&mut self, from: Option<PathBuf>, to: Option<PathBuf>) {
        let (Some(from), Some(to)) = (from, to) else { return };
        let (id, (folder, name)) = (self.id(&from), self.place(&to));
        self.machine.does(Op::Name { folder, name, to: Some(id) });
    }

    fn rename(&mut self, from: Option<PathBuf>, to: Option<PathBuf>) {
        let (Some(from), Some(to)) = (from, to) else { return };
        let id = self.id(&from);
        // Two names of one file: nothing is done.
        if self.machine.seen.find(&to) != Some(id) {
            self.machine.does(Op::Move { from: self.place(&from), to: self.place(&to), id });
        }
    }

    fn remove(&mut self, path: Option<PathBuf>) {
        let Some(path) = path else { return };
        let (folder, name) = self.place(&path);
        self.machine.does(Op::Name { folder, name, to: None });
    }

    fn mode(&mut self, path: Option<PathBuf>, mode: u32) {
        if let Some(id) = path.map(|path| self.id(&path)) {
            self.machine.does(Op::Mode { id, mode });
        }
    }

    fn owner(&mut self, path: Option<PathBuf>, user: &str, group: &str) {
        if let Some(id) = path.map(|path| self.id(&path)) {
            let owner = (user.parse().ok(), group.parse().ok());
            self.machine.does(Op::Owner { id, owner });
        }
    }

    fn attribute(&mut self, path: Option<PathBuf>, name: &str, value: Option<&str>) {
        if let Some(id) = path.map(|path| self.id(&path)) {
            let value = value.map(|value| text(value).into_vec());
            self.machine.does(Op::Attribute { id, name: text(name), value });
        }
    }

    /// What is written goes to the end: new files are written once, from their beginning, and journals only grow.
    fn write(&mut self, call: &Call) {
        let Some(path) = self.descriptor(&call.arguments[0]) else { return };
        let bytes = text(&call.arguments[1]).into_vec();
        assert_eq!(bytes.len().to_string(), call.result, "all of it was written, and seen: {}", path.display());
        let id = self.id(&path);
        self.machine.does(Op::Write { id, at: self.machine.seen.length(id), bytes });
    }

    fn length(&mut self, path: Option<PathBuf>, bytes: usize) {
        if let Some(id) = path.map(|path| self.id(&path)) {
            self.machine.does(Op::Length { id, bytes });
        }
    }
}

/// The path that stands behind a descriptor.
fn text_of(argument: &str) -> Option<PathBuf> {
    let (_, path) = argument.split_once('<')?;
    Some(PathBuf::from(bytes(path.split('>').next()?)))
}

/// A quoted text.
fn text(argument: &str) -> OsString {
    let inside = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    bytes(inside.unwrap_or_else(|| panic!("no whole text: {argument}")))
}

/// Bytes, each written as `\x2f` or as itself.
fn bytes(text: &str) -> OsString {
    let (mut found, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        match (first, behind) {
            (b'\\', [b'x', a, b, behind @ ..]) => {
                let digits = [*a, *b];
                found.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = behind;
            }
            _ => {
                found.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(found)
}

fn octal(argument: &str) -> u32 {
    u32::from_str_radix(argument, 8).unwrap_or_else(|_| panic!("no mode: {argument}"))
}
