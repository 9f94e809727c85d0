//! What each program means that runs no other: one table, a line a program.

use super::{
    DESTROYS, DISARMS, DISK, DOWNLOADS, KILLS, OPENS, PERSISTS, READS, REVERSE, Result, SENDS, STOPS, TRACES,
    has_flag, has_long, is_wide_place, operands, option,
};
use crate::shell::machine::Machine;
use crate::shell::marks;
use crate::shell::paths::{self, Place};

impl Machine<'_> {
    #[expect(clippy::too_many_lines, reason = "one table, a line a program")]
    pub(super) fn judge_program(&mut self, program: &str, args: &[String], input: &str) -> Result<()> {
        let first = args.first().map_or("", String::as_str);
        self.judge_cloud(program, args)?;
        self.judge_windows(program, args)?;
        match program {
            "rm" | "unlink" | "rimraf" | "del-cli" | "trash" | "srm" | "rmdir" | "remove-item" | "del"
            | "rd" | "ri" | "erase" => {
                let recursive = program != "rmdir" && (has_flag(args, 'r') || has_flag(args, 'R'))
                    || has_long(args, "--recursive")
                    || has_long(args, "--no-preserve-root")
                    || matches!(program, "rimraf" | "srm" | "rd" | "remove-item" | "ri")
                    || args
                        .iter()
                        .any(|arg| arg.eq_ignore_ascii_case("-recurse") || arg.eq_ignore_ascii_case("/s"));
                if has_long(args, "--no-preserve-root") {
                    return Err(DESTROYS);
                }
                for path in operands(args, "") {
                    if program == "rmdir" && !recursive {
                        continue;
                    }
                    self.judge_removal(path, recursive)?;
                }
            }
            "stop-computer" | "restart-computer" => return Err(STOPS),
            "dbus-send" | "busctl" | "gdbus"
                if args
                    .iter()
                    .any(|arg| arg.contains("login1") || arg.contains("ConsoleKit"))
                    && args.iter().any(|arg| {
                        let method = arg.rsplit('.').next().unwrap_or(arg);
                        matches!(
                            method,
                            "PowerOff" | "Reboot" | "Halt" | "Suspend" | "Hibernate" | "Stop" | "Restart"
                        )
                    }) =>
            {
                return Err(STOPS);
            }
            "debugfs" if has_flag(args, 'w') && args.iter().any(|arg| self.place(arg) == Place::Disk) => {
                return Err(DISK);
            }
            "xterm"
                if has_long(args, "-display")
                    && option(args, "-display", "").is_some_and(|at| !at.starts_with(':')) =>
            {
                return Err(REVERSE);
            }
            "ztcp" => return Err(REVERSE),
            "zmodload" if args.iter().any(|arg| arg.contains("net/tcp")) => return Err(REVERSE),
            "shred" | "wipe" | "scrub" => {
                for path in operands(args, "ns") {
                    match self.place(path) {
                        Place::Ordinary if !path.starts_with('/') => {}
                        Place::Temporary => {}
                        Place::Unknown => self.unknown("removes what is not known before it runs"),
                        Place::Disk => return Err(DISK),
                        _ => return Err(DESTROYS),
                    }
                }
            }
            "truncate" => {
                for path in operands(args, "sr") {
                    self.judge_write(path, None)?;
                    self.judge_removal(path, false)?;
                    if matches!(self.place(path), Place::InSystem) && !path.starts_with("/var/log/") {
                        return Err(DESTROYS);
                    }
                }
            }
            "fallocate"
                if operands(args, "lo")
                    .iter()
                    .any(|path| self.place(path) == Place::Disk) =>
            {
                return Err(DISK);
            }
            "dd" => {
                for arg in args {
                    if let Some(path) = arg.strip_prefix("of=") {
                        if path.starts_with(marks::is) {
                            self.unknown("writes to what is not known before it runs");
                        }
                        let content = match args.iter().find_map(|arg| arg.strip_prefix("if=")) {
                            Some(source) => self.read(source)?,
                            None => input.to_owned(),
                        };
                        self.judge_write(path, None)?;
                        self.write(path, &content, false)?;
                    } else if let Some(path) = arg.strip_prefix("if=") {
                        self.read(path)?;
                    } else if marks::any(arg) && !arg.contains('=') {
                        self.unknown("writes to what is not known before it runs");
                    }
                }
            }
            // Memory that is packed is no disk.
            "mkswap"
                if operands(args, "LUpv")
                    .iter()
                    .all(|path| path.starts_with("/dev/zram")) => {}
            "mke2fs" | "mkswap" | "wipefs" | "blkdiscard" | "mkdosfs" | "mkntfs" | "newfs" | "cfdisk"
            | "format" | "sgdisk" | "gdisk" | "mkfs" | "format.com" => {
                let only_looks = matches!(program, "wipefs") && operands(args, "ot").len() == args.len()
                    || has_flag(args, 'p') && program == "sgdisk"
                    || matches!(first, "--help" | "--version" | "-V");
                // A file system in an image file is no disk.
                let image = operands(args, "tLbiNIOTEm")
                    .iter()
                    .all(|path| !path.starts_with("/dev") && !marks::any(path))
                    && program != "format";
                if !only_looks && !image {
                    return Err(DISK);
                }
            }
            _ if program.starts_with("mkfs.") || program.starts_with("newfs_") => {
                if !operands(args, "tLbiNIOTEmn")
                    .iter()
                    .all(|path| !path.starts_with("/dev") && !marks::any(path))
                {
                    return Err(DISK);
                }
            }
            "fdisk" | "sfdisk" | "parted" => {
                let looks = has_flag(args, 'l')
                    || has_long(args, "--list")
                    || has_flag(args, 'd')
                    || args.iter().any(|arg| {
                        arg == "print" || arg == "--dump" || arg == "--help" || arg == "--version"
                    });
                if !looks && args.iter().any(|arg| arg.starts_with("/dev") || marks::any(arg)) {
                    return Err(DISK);
                }
            }
            "hdparm"
                if args.iter().any(|arg| {
                    arg.contains("security-erase")
                        || arg.contains("trim-sector")
                        || arg.contains("--write-sector")
                }) =>
            {
                return Err(DISK);
            }
            "nvme" if matches!(first, "format" | "sanitize" | "delete-ns" | "write-zeroes") => {
                return Err(DISK);
            }
            "badblocks" if has_flag(args, 'w') => return Err(DISK),
            "cryptsetup"
                if args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "luksFormat" | "erase" | "luksErase" | "luksRemoveKey" | "luksKillSlot" | "reencrypt"
                    )
                }) =>
            {
                return Err(DISK);
            }
            "lvremove" | "vgremove" | "pvremove" | "sg_format" | "sg_sanitize" | "sedutil-cli" => {
                return Err(DISK);
            }
            "pvcreate" | "vgcreate" if has_flag(args, 'f') || has_long(args, "--force") => return Err(DISK),
            "btrfs" if matches!(first, "subvolume" | "sub" | "su") => {
                let words = operands(args, "i");
                if matches!(words.get(1), Some(&("delete" | "del"))) {
                    for path in words.iter().skip(2) {
                        self.judge_removal(path, true)?;
                    }
                }
            }
            "rtcwake"
                if option(args, "-m", "--mode")
                    .is_some_and(|mode| matches!(mode, "off" | "disk" | "mem" | "standby" | "freeze")) =>
            {
                return Err(STOPS);
            }
            "ipmitool"
                if operands(args, "IHUPLE")
                    .windows(2)
                    .any(|pair| matches!(pair, ["power", "off" | "cycle" | "reset" | "soft" | "diag"])) =>
            {
                return Err(STOPS);
            }
            "virsh"
                if has_long(args, "--remove-all-storage") || matches!(first, "vol-delete" | "vol-wipe") =>
            {
                return Err(DESTROYS);
            }
            "dmsetup" if matches!(first, "remove_all" | "wipe_table") => return Err(DISK),
            // Without these nothing runs any more.
            "apt" | "apt-get" | "aptitude" | "dpkg" | "yum" | "dnf" | "rpm" | "pacman" | "apk" | "zypper"
                if args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "remove" | "purge" | "erase" | "del" | "-e" | "--purge" | "--remove" | "-P" | "rm"
                    ) || program == "pacman" && arg.starts_with("-R")
                }) && operands(args, "").iter().any(|name| {
                    matches!(
                        name.split(':').next().unwrap_or(""),
                        "*" | "libc6"
                            | "glibc"
                            | "musl"
                            | "bash"
                            | "coreutils"
                            | "dpkg"
                            | "apt"
                            | "rpm"
                            | "systemd"
                            | "init"
                            | "libc-bin"
                            | "base-files"
                    )
                }) =>
            {
                return Err(DESTROYS);
            }
            "apt" | "apt-get" if has_long(args, "--allow-remove-essential") => return Err(DESTROYS),
            "kubeadm" if first == "reset" => return Err(DESTROYS),
            "etcdctl"
                if args.iter().any(|arg| arg == "del")
                    && (has_long(args, "--prefix") || has_long(args, "--from-key"))
                    && operands(args, "")
                        .iter()
                        .any(|key| matches!(*key, "" | "/" | "\0")) =>
            {
                return Err(DESTROYS);
            }
            "consul"
                if args.iter().any(|arg| arg == "delete")
                    && args.iter().any(|arg| arg == "-recurse" || arg == "--recurse")
                    && operands(args, "")
                        .get(2)
                        .is_none_or(|key| matches!(*key, "" | "/")) =>
            {
                return Err(DESTROYS);
            }
            "mc" | "s3cmd"
                if matches!(operands(args, "c").first(), Some(&"rb"))
                    && (has_long(args, "--force") || has_long(args, "--recursive")) =>
            {
                return Err(DESTROYS);
            }
            // A whole remote, or a whole bucket of it.
            "rclone"
                if matches!(first, "purge" | "delete")
                    && !has_long(args, "--dry-run")
                    && !args
                        .iter()
                        .any(|arg| arg.starts_with("--min-age") || arg.starts_with("--include"))
                    && args.iter().any(|arg| {
                        arg.split_once(':').is_some_and(|(remote, path)| {
                            remote.len() > 1 && !path.trim_matches('/').contains('/')
                        })
                    }) =>
            {
                return Err(DESTROYS);
            }
            "tmutil" if first.starts_with("delete") => return Err(DESTROYS),
            "dscl"
                if args
                    .iter()
                    .any(|arg| matches!(arg.as_str(), "-create" | "-append" | "create" | "append"))
                    && args
                        .iter()
                        .any(|arg| arg.starts_with("/Users/") || arg.starts_with("/Groups/")) =>
            {
                return Err(PERSISTS);
            }
            // What is let in from outside is a shell, or where one logs in.
            "ngrok" | "bore" | "cloudflared" | "chisel" | "frpc" | "lt" | "inlets"
                if args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "22" | "localhost:22" | "127.0.0.1:22" | "ssh" | "3389"
                    ) || arg.contains("ssh://")
                        || arg.starts_with("R:") && (arg.ends_with(":22") || arg.contains(":22:"))
                }) =>
            {
                return Err(REVERSE);
            }
            "ttyd" | "gotty" | "wetty" | "websocketd"
                if args
                    .iter()
                    .any(|arg| super::canonical(arg) == "sh" || arg == "login") =>
            {
                return Err(REVERSE);
            }
            "shellinaboxd" => return Err(REVERSE),
            "telnetd" | "in.telnetd" | "utelnetd" if args.iter().any(|arg| super::canonical(arg) == "sh") => {
                return Err(REVERSE);
            }
            "sshd"
                if args.iter().any(|arg| {
                    let plain = arg.to_ascii_lowercase().replace(' ', "=");
                    plain.contains("permitemptypasswords=yes") || plain.contains("permitrootlogin=yes")
                }) =>
            {
                return Err(PERSISTS);
            }
            "ctr" | "runc" | "lxc" | "incus" | "buildah"
                if args.iter().any(|arg| {
                    arg.split(',')
                        .any(|part| matches!(part, "src=/" | "source=/" | "src=/etc" | "source=/etc"))
                }) =>
            {
                return Err(super::HOST);
            }
            "mount"
                if operands(args, "otL").get(1).is_some_and(|target| {
                    matches!(
                        target.trim_end_matches('/'),
                        "/etc" | "/usr" | "/bin" | "/sbin" | "/lib" | "/lib64" | "/usr/bin" | "/usr/lib"
                    )
                }) && !option(args, "-o", "--options")
                    .is_some_and(|options| options.contains("remount")) =>
            {
                return Err(DESTROYS);
            }
            "slay" => return Err(KILLS),
            // A snapshot is some of it.
            "zfs" if first == "destroy" && args.last().is_some_and(|name| name.contains('@')) => {}
            "zpool" | "zfs" if matches!(first, "destroy" | "labelclear") => return Err(DISK),
            "mdadm"
                if args
                    .iter()
                    .any(|arg| arg == "--zero-superblock" || arg == "--stop") =>
            {
                return Err(DISK);
            }
            "diskutil"
                if first.to_ascii_lowercase().contains("erase")
                    || matches!(first, "partitionDisk" | "zeroDisk" | "randomDisk" | "secureErase")
                    || matches!(first, "apfs" | "ap" | "cs" | "coreStorage")
                        && args.get(1).is_some_and(|verb| {
                            verb.to_ascii_lowercase().starts_with("delete") || verb == "eraseVolume"
                        }) =>
            {
                return Err(DISK);
            }
            "cp" | "mv" | "install" | "ln" | "rsync" | "scp" => {
                if matches!(program, "cp" | "install")
                    && let [.., source, target] = operands(args, "tSeTgom").as_slice()
                    && super::is_stdin(source)
                {
                    self.write(target, input, false)?;
                }
                self.judge_copy(program, args)?
            }
            "tee" | "sponge" => {
                let append = has_flag(args, 'a') || has_long(args, "--append");
                for path in operands(args, "") {
                    self.write(path, input, append)?;
                }
            }
            "chmod" | "setfacl" => self.judge_chmod(program, args)?,
            "chown" | "chgrp" => {
                let recursive = has_flag(args, 'R') || has_long(args, "--recursive");
                for path in operands(args, "").into_iter().skip(1) {
                    let place = self.place(path);
                    // The folders of a web server or of a service are given to it every day.
                    let served = ["/var/www", "/srv", "/opt"].iter().any(|folder| {
                        path.strip_prefix(folder)
                            .is_some_and(|rest| *folder == "/var/www" || rest.trim_matches('/').len() > 1)
                    });
                    if served {
                        continue;
                    }
                    if (recursive && is_wide_place(place) && place != Place::Home)
                        || (recursive
                            && place == Place::InSystem
                            && !path.starts_with("/var/lib")
                            && !path.starts_with("/var/log"))
                    {
                        return Err(OPENS);
                    }
                    if paths::is_vital(path, &self.env.cwd) {
                        return Err(OPENS);
                    }
                }
            }
            "umask" if matches!(first, "0" | "00" | "000" | "0000") => return Err(OPENS),
            "setcap"
                if args.iter().any(|arg| {
                    arg.contains("cap_setuid")
                        || arg.contains("cap_sys_admin")
                        || arg.contains("cap_dac")
                        || arg.starts_with("all")
                }) =>
            {
                return Err(OPENS);
            }
            // Words about it, in a text that is no command.
            "reboot" | "halt" | "poweroff" | "shutdown" if !self.strict && !is_order(program, args) => {}
            "shutdown" => {
                if !(has_flag(args, 'c') || has_long(args, "--help") || has_long(args, "--show")) {
                    return Err(STOPS);
                }
            }
            "reboot" | "halt" | "poweroff" => {
                if !matches!(first, "--help" | "--version" | "-w" | "--wtmp-only") {
                    return Err(STOPS);
                }
            }
            "init" | "telinit" => {
                if matches!(first, "0" | "6" | "1" | "s" | "S" | "single") || marks::any(first) {
                    return Err(STOPS);
                }
            }
            "kexec" => return Err(STOPS),
            "systemctl" | "loginctl" => {
                let verb = operands(args, "tpHMno").first().copied().unwrap_or("").to_owned();
                if matches!(
                    verb.as_str(),
                    "poweroff"
                        | "reboot"
                        | "halt"
                        | "kexec"
                        | "suspend"
                        | "hibernate"
                        | "hybrid-sleep"
                        | "rescue"
                        | "emergency"
                        | "soft-reboot"
                        | "exit"
                        | "isolate"
                        | "default"
                ) {
                    return Err(STOPS);
                }
                if matches!(verb.as_str(), "start")
                    && args.iter().any(|arg| {
                        ["poweroff", "reboot", "halt", "rescue", "emergency", "shutdown"]
                            .iter()
                            .any(|target| arg.starts_with(target))
                    })
                {
                    return Err(STOPS);
                }
                // Every unit there is.
                if args.iter().any(|arg| arg == "*" || arg == "*.service") {
                    match verb.as_str() {
                        "kill" => return Err(KILLS),
                        "stop" | "disable" | "mask" => return Err(STOPS),
                        _ => {}
                    }
                }
                // A unit from a folder where anybody may put one.
                if matches!(verb.as_str(), "enable" | "link" | "reenable")
                    && args.iter().any(|arg| {
                        arg.contains('/')
                            && !arg.starts_with('-')
                            && matches!(
                                self.place(arg),
                                Place::Temporary | Place::InHome | Place::Ordinary
                            )
                    })
                {
                    return Err(PERSISTS);
                }
                if matches!(verb.as_str(), "stop" | "disable" | "mask")
                    && args.iter().any(|arg| {
                        [
                            "firewalld",
                            "ufw",
                            "auditd",
                            "apparmor",
                            "fail2ban",
                            "sshd",
                            "ssh",
                            "dbus",
                            "systemd",
                        ]
                        .iter()
                        .any(|unit| {
                            arg.strip_suffix(".service").unwrap_or(arg) == *unit
                                || (*unit == "systemd" && arg.starts_with("systemd-"))
                        })
                    })
                {
                    return Err(DISARMS);
                }
            }
            "setenforce" if matches!(first, "0" | "Permissive" | "permissive") => return Err(DISARMS),
            "ufw" if matches!(operands(args, "").first(), Some(&("disable" | "reset"))) => {
                return Err(DISARMS);
            }
            "iptables" | "ip6tables"
                if has_flag(args, 'F') || has_flag(args, 'X') || has_long(args, "--flush") =>
            {
                return Err(DISARMS);
            }
            "nft"
                if args
                    .windows(2)
                    .any(|pair| matches!(pair, [a, b] if a == "flush" && b == "ruleset")) =>
            {
                return Err(DISARMS);
            }
            "auditctl"
                if has_flag(args, 'D')
                    || args
                        .windows(2)
                        .any(|pair| matches!(pair, [a, b] if a == "-e" && b == "0")) =>
            {
                return Err(DISARMS);
            }
            "kill" => self.judge_kill(args)?,
            "killall5" => return Err(KILLS),
            "pkill" | "killall" | "skill" => {
                let by_user = ["-u", "-U", "--user", "--euid", "--uid"]
                    .iter()
                    .any(|flag| args.iter().any(|arg| arg.starts_with(flag)));
                let names = operands(args, "uUgGPtsFno");
                if by_user && names.is_empty() {
                    return Err(KILLS);
                }
                const EVERYTHING: [&str; 9] = [".", ".*", "", "init", "systemd", "*", "^", ".+", "[a-z]"];
                if names.iter().any(|name| EVERYTHING.contains(name))
                    || has_flag(args, 'v') && program == "pkill"
                {
                    return Err(KILLS);
                }
                if names
                    .iter()
                    .any(|name| name.contains([marks::OUTPUT, marks::NETWORK]))
                {
                    self.unknown("kills what is not known before it runs");
                }
            }
            "crontab" => {
                let looks = has_flag(args, 'l')
                    || has_flag(args, 'e')
                    || has_flag(args, 'V')
                    || has_flag(args, 'T')
                    || has_long(args, "--help");
                if !looks {
                    return Err(PERSISTS);
                }
            }
            // A name with something else behind it than a time is no order: `at = 5`.
            "at" | "batch" if first.starts_with(['=', ':']) => {}
            "at" | "batch" => {
                if !(has_flag(args, 'l')
                    || has_flag(args, 'c')
                    || has_flag(args, 'r')
                    || has_flag(args, 'd')
                    || has_flag(args, 'V'))
                {
                    return Err(PERSISTS);
                }
            }
            "chpasswd" => return Err(PERSISTS),
            "chsh" | "usermod"
                if option(args, "-s", "--shell").is_some_and(|path| {
                    matches!(
                        self.place(path),
                        Place::Temporary | Place::InHome | Place::Home | Place::Device
                    )
                }) =>
            {
                return Err(PERSISTS);
            }
            "useradd" | "usermod" | "adduser" | "gpasswd" => {
                let privileged = args.iter().any(|arg| {
                    arg.split([',', '='])
                        .any(|group| matches!(group, "sudo" | "wheel" | "root" | "admin" | "shadow"))
                });
                if has_flag(args, 'o') && program != "gpasswd"
                    || privileged
                    || option(args, "-u", "--uid") == Some("0")
                {
                    return Err(PERSISTS);
                }
            }
            "passwd"
                if has_flag(args, 'd')
                    || has_long(args, "--delete")
                    || has_long(args, "--stdin")
                    || (operands(args, "").first() == Some(&"root")
                        && !has_flag(args, 'S')
                        && !has_flag(args, 'l')) =>
            {
                return Err(PERSISTS);
            }
            "visudo" if !has_flag(args, 'c') => return Err(PERSISTS),
            "userdel" | "deluser" if operands(args, "").iter().any(|name| *name == "root") => {
                return Err(DESTROYS);
            }
            "insmod" => return Err(PERSISTS),
            "keyctl" if matches!(first, "print" | "read" | "pipe") => return Err(READS),
            "defaults"
                if args.iter().any(|arg| arg == "LoginHook" || arg == "LogoutHook") && first == "write" =>
            {
                return Err(PERSISTS);
            }
            "rcat" | "rustcat" | "pwncat" | "pwncat-cs" | "powercat" => return Err(REVERSE),
            // Keys are looked for by what stands in them.
            "grep" | "egrep" | "rg" | "ag" | "zgrep"
                if args.iter().any(|arg| {
                    arg.contains("PRIVATE KEY")
                        || arg.contains("RSA PRIVATE")
                        || arg.contains("OPENSSH PRIVATE")
                }) && operands(args, "AmBCef")
                    .iter()
                    .skip(1)
                    .any(|path| is_wide_place(self.place(path)) || self.place(path) == Place::InHome) =>
            {
                return Err(READS);
            }
            // Packages whose scripts run, over a connection that anybody may answer.
            "pip" | "pip3" | "npm" | "pnpm" | "yarn" | "gem" | "cargo" | "go" | "uv"
                if args
                    .iter()
                    .any(|arg| matches!(arg.as_str(), "install" | "i" | "add"))
                    && args.iter().any(|arg| {
                        let address = arg.strip_prefix("git+").unwrap_or(arg);
                        address.starts_with("http://")
                            && !address.starts_with("http://localhost")
                            && !address.starts_with("http://127.0.0.1")
                            && (address.contains(".tar")
                                || address.ends_with(".tgz")
                                || address.ends_with(".zip")
                                || address.ends_with(".whl")
                                || address.contains(".git"))
                    }) =>
            {
                return Err(DOWNLOADS);
            }
            "launchctl" if matches!(first, "load" | "bootstrap" | "submit") => return Err(PERSISTS),
            "chattr"
                if args.iter().any(|arg| arg.contains('R') && arg.starts_with('-'))
                    && args.iter().any(|arg| is_wide_place(self.place(arg))) =>
            {
                return Err(DESTROYS);
            }
            "chattr" if args.iter().any(|arg| paths::is_vital(arg, &self.env.cwd)) => return Err(PERSISTS),
            "security" if first.starts_with("find-") || first == "dump-keychain" || first == "export" => {
                return Err(READS);
            }
            "secret-tool" if first == "lookup" || first == "search" => return Err(READS),
            "gpg" | "gpg2" if args.iter().any(|arg| arg.starts_with("--export-secret")) => return Err(READS),
            "aws"
                if args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "get-secret-value" | "export-credentials" | "get-session-token"
                    )
                }) =>
            {
                return Err(READS);
            }
            "aws" | "gsutil" | "rclone" | "azcopy" | "mc" | "s3cmd" | "b2" => {
                let moves = args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "cp" | "sync" | "mv" | "copy" | "put" | "move" | "rsync"
                    )
                });
                if moves && args.iter().any(|arg| self.is_private(arg)) {
                    return Err(SENDS);
                }
            }
            "getent" if args.iter().any(|arg| arg == "shadow" || arg == "gshadow") => return Err(READS),
            "unshadow" | "mimikatz" | "mimipenguin" | "lazagne" => return Err(READS),
            "kubectl" | "oc" => {
                Self::judge_pod(args)?;
                let words = operands(args, "nolfc");
                let secret = words
                    .iter()
                    .any(|word| *word == "secret" || *word == "secrets" || word.starts_with("secret/"));
                let shown = args.iter().any(|arg| {
                    arg.starts_with("-o") && arg.len() > 2 && !arg.contains("name") && !arg.contains("wide")
                        || arg.starts_with("--output=")
                        || matches!(arg.as_str(), "yaml" | "json")
                        || arg.contains("jsonpath")
                });
                if words.first() == Some(&"config") && args.iter().any(|arg| arg == "--raw") {
                    return Err(READS);
                }
                if words.first() == Some(&"get") && secret && shown {
                    return Err(READS);
                }
                if words.first() == Some(&"delete")
                    && (has_long(args, "--all")
                        || args
                            .iter()
                            .any(|arg| arg == "--all" || arg == "-A" || arg == "--all-namespaces")
                        || words
                            .get(1)
                            .is_some_and(|kind| matches!(*kind, "namespace" | "ns" | "namespaces")))
                {
                    return Err(DESTROYS);
                }
            }
            "tar" | "zip" | "7z" => self.judge_archive(program, args)?,
            "curl" | "wget" | "http" | "https" | "xh" | "aria2c" | "fetch" => {
                self.judge_transfer(program, args, input)?
            }
            "nc" | "telnet" | "socat" => self.judge_net(program, args, input)?,
            "dig" | "nslookup" | "host" | "ping" | "ping6" | "traceroute" => {
                if args.iter().any(|arg| {
                    arg.contains([marks::SENSITIVE])
                        || arg.contains([marks::OUTPUT, marks::FILE, marks::HARMLESS])
                            && arg
                                .find('.')
                                .is_some_and(|dot| arg.get(..dot).is_some_and(marks::any))
                        || (arg.contains(marks::OUTPUT) && matches!(program, "dig" | "nslookup" | "host"))
                }) {
                    return Err(SENDS);
                }
            }
            "mail" | "mailx" | "sendmail" | "mutt" | "msmtp" | "swaks" => {
                if input.contains(marks::SENSITIVE)
                    || args
                        .iter()
                        .any(|arg| self.is_private(arg) || arg.contains(marks::SENSITIVE))
                {
                    return Err(SENDS);
                }
            }
            "openssl" if first == "s_client" => {
                if input.contains([marks::SENSITIVE, marks::OUTPUT, marks::FILE]) {
                    return Err(SENDS);
                }
            }
            "ftp" | "tftp" | "lftp" | "sftp" => {
                if args.iter().any(|arg| self.is_private(arg))
                    || args.iter().any(|arg| {
                        arg.split([';', '\n']).any(|order| {
                            let mut words = order.split_whitespace();
                            let verb = words.next().unwrap_or("");
                            (matches!(verb, "put" | "mput" | "reput")
                                || verb == "mirror" && order.contains(" -R"))
                                && words.any(|word| self.is_private(word))
                        })
                    })
                    || input.lines().any(|line| {
                        line.trim_start().starts_with("put ")
                            && line.split_whitespace().skip(1).any(|word| self.is_private(word))
                    })
                {
                    return Err(SENDS);
                }
            }
            "sed" => {
                if has_flag(args, 'i') || has_long(args, "--in-place") {
                    if args.iter().any(|arg| {
                        [
                            "PermitRootLogin yes",
                            "PermitEmptyPasswords yes",
                            "PasswordAuthentication yes",
                        ]
                        .iter()
                        .any(|line| {
                            arg.rfind(line).is_some_and(|at| {
                                arg.get(at.saturating_add(line.len())..)
                                    .is_some_and(|rest| rest.matches(['/', '|', '#']).count() <= 1)
                            })
                        })
                    }) && args.iter().any(|arg| arg.ends_with("sshd_config"))
                    {
                        return Err(PERSISTS);
                    }
                    for path in operands(args, "ef")
                        .into_iter()
                        .skip(usize::from(option(args, "-e", "--expression").is_none()))
                    {
                        if paths::is_vital(path, &self.env.cwd)
                            && path != "/etc/hosts"
                            && !path.starts_with("/etc/ssh")
                        {
                            return Err(DESTROYS);
                        }
                        if paths::persists(path, &self.env.cwd) {
                            return Err(PERSISTS);
                        }
                    }
                }
            }
            "docker" => self.judge_docker(args)?,
            "git" if first == "add" && args.iter().any(|arg| paths::is_credential(arg, &self.env.cwd)) => {
                return Err(SENDS);
            }
            "git"
                if matches!(first, "diff" | "hash-object" | "show" | "blame")
                    && args.iter().any(|arg| paths::is_credential(arg, &self.env.cwd)) =>
            {
                return Err(READS);
            }
            "git" => {
                if args.iter().any(|arg| {
                    arg.starts_with("core.pager=!")
                        || arg.starts_with("core.sshCommand=") && arg.contains(marks::NETWORK)
                }) {
                    return Err(DOWNLOADS);
                }
            }
            "mount"
                if args.iter().any(|arg| self.place(arg) == Place::Disk)
                    && args.windows(2).any(|pair| matches!(pair, [_, b] if b == "/")) =>
            {
                return Err(DISK);
            }
            "umount" if has_flag(args, 'a') => return Err(DESTROYS),
            "swapoff" if has_flag(args, 'a') => {}
            "sysctl"
                if args.iter().any(|arg| {
                    arg.starts_with("kernel.core_pattern=|")
                        || arg.starts_with("kernel.panic")
                        || arg.replace(' ', "") == "kernel.randomize_va_space=0"
                }) =>
            {
                return Err(STOPS);
            }
            "history" if has_flag(args, 'c') => {
                return Err(TRACES);
            }
            "unset" if args.iter().any(|arg| arg == "HISTFILE") => return Err(TRACES),
            "set"
                if args
                    .windows(2)
                    .any(|pair| matches!(pair, [a, b] if a == "+o" && b == "history")) =>
            {
                return Err(TRACES);
            }
            "journalctl"
                if args.iter().any(|arg| {
                    arg.strip_prefix("--vacuum-time=")
                        .is_some_and(|time| time.ends_with('s') && !time.contains("days"))
                        || arg.strip_prefix("--vacuum-size=").is_some_and(|size| {
                            size.ends_with('K') || size.bytes().all(|byte| byte.is_ascii_digit())
                        })
                        || arg == "--vacuum-files=1"
                }) =>
            {
                return Err(TRACES);
            }
            "mount"
                if (has_long(args, "--bind")
                    || has_flag(args, 'B')
                    || option(args, "-o", "--options").is_some_and(|options| options.contains("bind"))
                    || option(args, "-t", "--types") == Some("tmpfs"))
                    && operands(args, "ot").last().is_some_and(|target| {
                        paths::is_vital(target, &self.env.cwd)
                            || [
                                "/etc", "/usr", "/bin", "/sbin", "/lib", "/boot", "/home", "/root", "/",
                            ]
                            .contains(&target.trim_end_matches('/'))
                    }) =>
            {
                return Err(DESTROYS);
            }
            "pip" | "pip3" | "npm" | "yarn" | "gem"
                if args.iter().any(|arg| arg.contains([marks::NETWORK])) =>
            {
                return Err(DOWNLOADS);
            }
            "vssadmin" | "bcdedit" | "cipher"
                if args
                    .iter()
                    .any(|arg| arg.eq_ignore_ascii_case("delete") || arg.starts_with("/w")) =>
            {
                return Err(DESTROYS);
            }
            _ => {
                // Any other program that is given somebody's secrets on its way out of the machine.
            }
        }
        Ok(())
    }

    pub(super) fn judge_kill(&mut self, args: &[String]) -> Result<()> {
        let mut rest = args;
        match args.first().map(String::as_str) {
            None => return Ok(()),
            Some("-l" | "-L" | "--list") => return Ok(()),
            Some("-s" | "-n" | "--signal") => rest = args.get(2..).unwrap_or(&[]),
            Some("--") => rest = args.get(1..).unwrap_or(&[]),
            Some(signal) if signal.starts_with('-') && args.len() > 1 => rest = args.get(1..).unwrap_or(&[]),
            _ => {}
        }
        for target in rest {
            if target == "--" {
                continue;
            }
            if target == "-1" || target == "1" || target.trim_start_matches('0') == "1" {
                return Err(KILLS);
            }
            if target.contains([marks::SENSITIVE, '*', '?']) || target.starts_with('[') {
                return Err(KILLS);
            }
            if target.contains([marks::OUTPUT, marks::NETWORK]) {
                self.unknown("kills what is not known before it runs");
            }
        }
        Ok(())
    }
}

/// Whether `reboot …` in a text that may be prose is what somebody would type.
fn is_order(program: &str, args: &[String]) -> bool {
    match operands(args, "").first() {
        None => program != "shutdown" || !args.is_empty(),
        Some(time) => {
            program == "shutdown"
                && (*time == "now" && args.len() <= 2
                    || args.iter().any(|arg| arg.starts_with('-'))
                    || time.starts_with('+')
                    || time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'))
        }
    }
}
