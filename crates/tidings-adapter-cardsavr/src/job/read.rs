//! Rows 5 and 6: one job, or a list of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde_json::Value;

use super::index::{self, Listed};
use super::state::{Hydration, Job, Secrets};
use super::{is_visible, may_see, no_job, status};
use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::keys;
use crate::paging::Paging;
use crate::request::Asked;
use crate::routes::number;

/// Ids of one request; a URL of 8 KiB has room for about as many.
const IDS_MAX: usize = 1_000;

/// Jobs that one request looks at when no ids are given, the newest ones: 5 MB of records.
const SCANNED_MAX: usize = 5_000;

/// Row 5.
pub(super) async fn one(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let id = asked.id.unwrap_or_default();
    let keys = vec![keys::job(id), keys::secrets(id)];
    let wanted = Hydration::of(&asked.hydration());
    let driven = asked.session.may_drive();
    // Secrets are loaded for the virtual browser alone.
    let count = if driven && (wanted.account || wanted.card) {
        2
    } else {
        1
    };
    let keys = keys.into_iter().take(count).collect();
    let mut loaded = shared.hub.load(&keys::job_key(id), keys).await?.into_iter();
    let job = loaded.next().flatten();
    let job = job
        .and_then(|record| kept(&shared, &record.document))
        .ok_or_else(no_job)?;
    may_see(&shared, &asked, &job)?;
    let secrets = loaded.next().flatten();
    let secrets: Option<Secrets> =
        secrets.and_then(|record| serde_json::from_slice(&record.document).ok());
    Ok(Answer::ok(show(
        &shared,
        &asked,
        &job,
        wanted,
        secrets.as_ref(),
    )))
}

fn kept(shared: &Shared, document: &[u8]) -> Option<Job> {
    Job::kept(document, &shared.settings.timers, shared.hub.now().unix_ms)
}

/// A job as a session sees it.
pub(super) fn show(
    shared: &Shared,
    asked: &Asked,
    job: &Job,
    wanted: Hydration,
    secrets: Option<&Secrets>,
) -> Value {
    let his = asked.session.owns(job.owner) || asked.session.may_drive();
    let now_ms = shared.hub.now().unix_ms;
    job.print(&shared.settings.timers, now_ms, wanted, his, secrets)
}

/// What a list is filtered by; `None`: by anything.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    ids: Option<Vec<u64>>,
    cardholders: Option<Vec<u64>>,
    accounts: Option<Vec<u64>>,
    cards: Option<Vec<u64>>,
    statuses: Option<Vec<String>>,
    terminations: Option<Vec<String>>,
}

impl Filter {
    /// Of a query: lists with commas, keys that may come again, in the singular or the plural.
    /// Unknown keys are ignored.
    fn of<K: AsRef<str>, V: AsRef<str>>(
        query: impl Iterator<Item = (K, V)>,
    ) -> Result<Self, Refused> {
        let mut filter = Self::default();
        for (name, values) in query {
            let (name, values) = (name.as_ref(), values.as_ref());
            let values = values
                .split(',')
                .map(str::trim)
                .filter(|value| !value.is_empty());
            let list = match name {
                "id" | "ids" => &mut filter.ids,
                "cardholder_id" | "cardholder_ids" => &mut filter.cardholders,
                "account_id" | "account_ids" => &mut filter.accounts,
                "card_id" | "card_ids" => &mut filter.cards,
                "status" | "statuses" | "termination_type" | "termination_types" => {
                    let list = match name.starts_with("status") {
                        true => filter.statuses.get_or_insert_default(),
                        false => filter.terminations.get_or_insert_default(),
                    };
                    for value in values.take(IDS_MAX) {
                        list.push(status::name(value).ok_or_else(|| Refused::bad(name, "names"))?);
                    }
                    continue;
                }
                _ => continue,
            };
            let list = list.get_or_insert_default();
            for value in values {
                list.push(number(value).ok_or_else(|| Refused::bad(name, "numbers"))?);
            }
            if list.len() > IDS_MAX {
                return Err(Refused::bad(name, "at most 1000"));
            }
        }
        Ok(filter)
    }

    fn takes(&self, job: &Job) -> bool {
        fn has<T: PartialEq>(list: &Option<Vec<T>>, one: &T) -> bool {
            list.as_ref().is_none_or(|list| list.contains(one))
        }
        let termination = job.termination_type.clone().unwrap_or_default();
        has(&self.ids, &job.id)
            && has(&self.cardholders, &job.cardholder)
            && has(&self.accounts, &job.account)
            && has(&self.cards, &job.card)
            && has(&self.statuses, &job.status)
            && has(&self.terminations, &termination)
    }
}

/// Row 6: the jobs that the session may see, of those that are asked for.
pub(super) async fn list(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let filter = Filter::of(asked.query())?;
    let paging = Paging::parse(asked.header("paging"));
    let mut ids = match &filter.ids {
        Some(ids) => ids.clone(),
        None => candidates(&shared, &asked, &filter).await?,
    };
    ids.sort_unstable();
    ids.dedup();
    let session = &asked.session;
    let visible = |job: &Job| is_visible(&shared, session, job.owner, job.cardholder, &job.app);
    let mut jobs: Vec<Job> = load_all(&shared, &ids)
        .await?
        .into_iter()
        .filter(|job| filter.takes(job) && visible(job))
        .collect();
    jobs.sort_by(|a, b| order(&paging.sort, a, b));
    if paging.is_descending {
        jobs.reverse();
    }
    let wanted = Hydration::of(&asked.hydration());
    let shown = paging
        .of(&jobs)
        .map(|job| show(&shared, &asked, job, wanted, None));
    let shown: Vec<Value> = shown.collect();
    Ok(Answer::ok(shown).paged(paging.with_total(jobs.len())))
}

/// Jobs whose records are worth a look, the newest ones.
async fn candidates(shared: &Shared, asked: &Asked, filter: &Filter) -> Result<Vec<u64>, Refused> {
    let mut listed = index::listed(shared).await?;
    // By what the list knows of the owner; the record says the rest.
    let app = &asked.session.app;
    listed.retain(|one: &Listed| {
        let of = filter.cardholders.as_ref();
        is_visible(shared, &asked.session, one.owner, one.cardholder, app)
            && of.is_none_or(|ids| ids.contains(&one.cardholder))
    });
    listed.sort_by_key(|one| std::cmp::Reverse(one.job));
    Ok(listed.iter().take(SCANNED_MAX).map(|one| one.job).collect())
}

/// The jobs that there are of these.
async fn load_all(shared: &Shared, ids: &[u64]) -> Result<Vec<Job>, Refused> {
    let mut places: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for id in ids {
        let placed = shared.hub.placed(keys::topic(&keys::job_key(*id)));
        places.entry(placed.partition).or_default().push(*id);
    }
    let loads = places.into_values().map(|ids| async move {
        let first = ids.first().copied().unwrap_or_default();
        let keys = ids.into_iter().map(keys::job).collect();
        shared.hub.load(&keys::job_key(first), keys).await
    });
    let loaded = try_join_all(loads).await?.into_iter().flatten().flatten();
    Ok(loaded
        .filter_map(|record| kept(shared, &record.document))
        .collect())
}

/// Unknown properties: by id.
fn order(property: &str, a: &Job, b: &Job) -> Ordering {
    let by = match property {
        "created_on" => a.created.cmp(&b.created),
        "last_updated_on" => a.updated.cmp(&b.updated),
        "started_on" => a.started.cmp(&b.started),
        "completed_on" => a.completed.cmp(&b.completed),
        "status" => a.status.cmp(&b.status),
        "cardholder_id" => a.cardholder.cmp(&b.cardholder),
        _ => Ordering::Equal,
    };
    by.then(a.id.cmp(&b.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let parse = |query: &[(&'static str, &'static str)]| Filter::of(query.iter().copied());
        let filter = parse(&[
            ("ids", "1,2"),
            ("ids", "3"),
            ("status", "canceled,AUTH"),
            ("x", "y"),
        ]);
        let filter = filter.expect("good");
        assert_eq!(filter.ids, Some(vec![1, 2, 3]));
        assert_eq!(
            filter.statuses,
            Some(vec!["CANCELLED".into(), "AUTH".into()])
        );
        let job = |id, status: &str| Job {
            id,
            status: status.to_owned(),
            ..Job::default()
        };
        assert!(filter.takes(&job(2, "AUTH")));
        assert!(!filter.takes(&job(2, "UPDATING")) && !filter.takes(&job(4, "AUTH")));
        assert!(parse(&[]).expect("good").takes(&job(9, "X")));
        assert!(parse(&[("ids", "a")]).is_err() && parse(&[("status", "ä")]).is_err());
        // Asked for, and none of them: nothing.
        assert!(!parse(&[("ids", "")]).expect("good").takes(&job(1, "AUTH")));
    }
}
