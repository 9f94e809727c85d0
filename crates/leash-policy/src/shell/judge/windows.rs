//! Programs of Windows and commands of PowerShell, by their names in lower case.

use super::{DESTROYS, DISARMS, DISK, DOWNLOADS, OPENS, PERSISTS, READS, Result, STOPS, TRACES};
use crate::shell::machine::Machine;
use crate::shell::paths::Place;

impl Machine<'_> {
    pub(super) fn judge_windows(&self, program: &str, args: &[String]) -> Result<()> {
        let first = args.first().map_or("", String::as_str);
        let is = |word: &str, wanted: &str| word.eq_ignore_ascii_case(wanted);
        let has = |wanted: &str| args.iter().any(|arg| is(arg, wanted));
        let fetches = || {
            args.iter()
                .any(|arg| arg.contains("http:") || arg.contains("https:"))
        };
        match program {
            "reg" => {
                // A shell may have taken the backslashes away.
                let keys: String = args
                    .iter()
                    .skip(1)
                    .map(|arg| arg.replace(['\\', '/'], "").to_ascii_lowercase())
                    .collect();
                if is(first, "add")
                    && [
                        "currentversionrun",
                        "winlogon",
                        "image file execution",
                        "currentcontrolsetservices",
                    ]
                    .iter()
                    .any(|key| keys.contains(key))
                {
                    return Err(PERSISTS);
                }
                if is(first, "delete") && keys.contains("hklm") {
                    return Err(DESTROYS);
                }
                if (is(first, "save") || is(first, "export"))
                    && ["hklmsam", "hklmsystem", "hklmsecurity"]
                        .iter()
                        .any(|key| keys.contains(key))
                {
                    return Err(READS);
                }
            }
            "schtasks" if has("/create") => return Err(PERSISTS),
            "sc" | "new-service" if is(first, "create") || program == "new-service" => return Err(PERSISTS),
            "register-scheduledtask" => return Err(PERSISTS),
            "net" | "net1" if has("/add") && (is(first, "user") || is(first, "localgroup")) => {
                return Err(PERSISTS);
            }
            "certutil" if fetches() => return Err(DOWNLOADS),
            "bitsadmin" | "mshta" | "regsvr32" | "msiexec" | "rundll32" | "cscript" | "wscript"
                if fetches() || args.iter().any(|arg| arg.starts_with("javascript:")) =>
            {
                return Err(DOWNLOADS);
            }
            "wevtutil" if is(first, "cl") || is(first, "clear-log") => return Err(TRACES),
            "clear-eventlog" | "remove-eventlog" => return Err(TRACES),
            "wbadmin" if is(first, "delete") => return Err(DESTROYS),
            "wmic" if has("shadowcopy") && has("delete") => return Err(DESTROYS),
            "format-volume" | "clear-disk" | "initialize-disk" | "diskpart" | "remove-partition" => {
                return Err(DISK);
            }
            "netsh" if args.iter().any(|arg| arg.contains("firewall")) && has("off") => return Err(DISARMS),
            "set-mppreference" | "set-netfirewallprofile"
                if args
                    .iter()
                    .any(|arg| arg.to_ascii_lowercase().starts_with("-disable") || is(arg, "false")) =>
            {
                return Err(DISARMS);
            }
            "icacls" | "cacls"
                if args
                    .iter()
                    .any(|arg| arg.to_ascii_lowercase().starts_with("everyone:"))
                    && (has("/t") || matches!(self.place(first), Place::Root | Place::System)) =>
            {
                return Err(OPENS);
            }
            "takeown"
                if has("/r")
                    && args
                        .iter()
                        .any(|arg| matches!(self.place(arg), Place::Root | Place::System)) =>
            {
                return Err(OPENS);
            }
            "csrutil" if is(first, "disable") => return Err(DISARMS),
            "spctl" if args.iter().any(|arg| arg.ends_with("-disable")) => return Err(DISARMS),
            "tsshutdn" => return Err(STOPS),
            _ => {}
        }
        Ok(())
    }
}
