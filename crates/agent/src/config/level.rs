//! How much is told of decisions.

/// Which decisions become events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLevel {
    /// None.
    Off,
    /// Those that made a call fail.
    Failures,
    /// Those, and one in so many of the others.
    Sampled(u32),
    /// Each decision on a service.
    All,
}

impl EventLevel {
    /// The words of [`abi::Settings`]: level and sample.
    pub fn words(self) -> (u32, u32) {
        use abi::settings::level;
        match self {
            Self::Off => (level::OFF, 1),
            Self::Failures => (level::FAILURES, 1),
            Self::Sampled(every) => (level::SAMPLED, every),
            Self::All => (level::ALL, 1),
        }
    }

    /// From the words of [`abi::Settings`].
    pub fn from_settings(settings: &abi::Settings) -> Self {
        use abi::settings::level;
        match settings.events {
            level::OFF => Self::Off,
            level::FAILURES => Self::Failures,
            level::SAMPLED => Self::Sampled(settings.sample),
            _ => Self::All,
        }
    }
}

impl std::fmt::Display for EventLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Failures => f.write_str("failures"),
            Self::Sampled(every) => write!(f, "sampled={every}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl std::str::FromStr for EventLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "failures" => Ok(Self::Failures),
            "all" => Ok(Self::All),
            _ => text
                .strip_prefix("sampled=")
                .and_then(|every| every.parse().ok())
                .filter(|every| *every > 0)
                .map(Self::Sampled)
                .ok_or_else(|| "give off, failures, all, or sampled=N for one decision in N".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_survive_text_and_settings() {
        for text in ["off", "failures", "sampled=100", "all"] {
            let level: EventLevel = text.parse().unwrap();
            assert_eq!(level.to_string(), text);
            let (events, sample) = level.words();
            let settings = abi::Settings { events, sample, ..abi::Settings::default() };
            assert_eq!(EventLevel::from_settings(&settings), level);
        }
        for text in ["", "sampled=0", "sampled=", "sampled=-1", "ALL"] {
            text.parse::<EventLevel>().unwrap_err();
        }
    }
}
