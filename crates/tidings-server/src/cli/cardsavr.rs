//! `tidings cardsavr`: what belongs to one dialect alone: entries for its users, and a site that its
//! jobs can be tried on.

mod simulate;
mod site;
mod user;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::app::AppError;
use crate::config::values::Span;

/// `tidings cardsavr`.
#[derive(Debug, Subcommand)]
pub enum CardsavrCommand {
    /// Print the configuration's entry for a user, with what is made of the password.
    #[command(after_help = "Examples:\n  \
        tidings cardsavr user --id 11 --username agent1 --role cardholder-agent\n  \
        tidings cardsavr user --id 11 --username agent1 --password-file secret >> config/cardsavr.toml\n\n\
        The password is the first line of standard input, or of the file: an argument would be seen by\n\
        everybody on this machine.")]
    User(UserArgs),
    /// Play Strivve's synthetic site: run jobs as a virtual browser does, over the public routes.
    #[command(after_help = "Examples:\n  \
        tidings cardsavr simulate --dev            for `tidings serve --dev`\n  \
        tidings cardsavr simulate --url https://cardsavr.example --ca ca.pem --app acme-app \\\n    \
        --app-key-file acme-app.key --username browser1 --password-file browser1.password\n\n\
        good_email with good_password succeeds; the password `tfa` asks for a code (1234 is right),\n\
        `security` for two answers (security_1 Max, security_2 Smith). Any other login is asked for\n\
        again. Two wrong logins or one wrong code end a job.\n\n\
        One simulator per hub: two would run the same jobs.")]
    Simulate(SimulateArgs),
}

/// `tidings cardsavr user`.
#[derive(Debug, Clone, Args)]
pub struct UserArgs {
    /// The user's number; no two have the same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1 << 53))]
    pub id: u64,
    /// What the user logs in as.
    #[arg(long, value_name = "NAME")]
    pub username: String,
    /// What the user may do.
    #[arg(long, default_value = "cardholder-agent")]
    pub role: RoleName,
    /// The id of the customer agent who may see this one's jobs; without it, all may.
    #[arg(long, value_name = "N")]
    pub parent: Option<u64>,
    /// Read the password from this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// A role, as it is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Sees everything.
    #[value(alias = "admin")]
    Admin,
    /// Sees the jobs of cardholder agents that are his.
    #[value(alias = "customer_agent")]
    CustomerAgent,
    /// Creates jobs and answers for their users.
    #[value(alias = "cardholder_agent")]
    CardholderAgent,
    /// Drives jobs.
    #[value(alias = "virtual_browser")]
    VirtualBrowser,
}

/// `tidings cardsavr simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// The dialect's own listener.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:8084")]
    pub url: String,
    /// Use the public secrets of development mode, and any certificate.
    #[arg(long, conflicts_with_all = ["app", "app_key_file", "username", "password_file", "ca"])]
    pub dev: bool,
    /// The integrator's name.
    #[arg(long, value_name = "NAME", required_unless_present = "dev")]
    pub app: Option<String>,
    /// The file with the integrator's key.
    #[arg(long, value_name = "FILE", required_unless_present = "dev")]
    pub app_key_file: Option<PathBuf>,
    /// A user with the role virtual_browser.
    #[arg(long, value_name = "NAME", required_unless_present = "dev")]
    pub username: Option<String>,
    /// The file with that user's password.
    #[arg(long, value_name = "FILE", required_unless_present = "dev")]
    pub password_file: Option<PathBuf>,
    /// Trust this PEM file's certificates, too.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Take any certificate: for development.
    #[arg(long)]
    pub insecure: bool,
    /// How long each step of a job takes.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub pace: Duration,
    /// How often it is looked for new jobs and for answers.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub every: Duration,
    /// How many jobs run at a time, 1 to 1000.
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub jobs: u16,
    /// End after so many jobs.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// The failed login that ends a job.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    pub logins: u32,
    /// The wrong code or answers that end a job.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub codes: u32,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let span = Span::parse(text).map(|span| span.0);
    span.ok_or("a duration such as \"250ms\" or \"2s\"")
}

/// Does it.
///
/// # Errors
/// [`AppError`].
pub async fn run(command: &CardsavrCommand) -> Result<(), AppError> {
    match command {
        CardsavrCommand::User(args) => user::run(args),
        CardsavrCommand::Simulate(args) => simulate::run(args).await,
    }
}
