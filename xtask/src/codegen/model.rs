//! The service model as botocore writes it, read into what the generator needs. Names are sorted, so that the same
//! model always gives the same text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read as _,
    path::Path,
};

use anyhow::Context;
use flate2::read::GzDecoder;
use serde::Deserialize;

/// One of the two models.
pub(super) struct Service {
    /// Folder within botocore's data.
    pub(super) folder: String,
    /// `Control` or `Data`.
    pub(super) plane: &'static str,
    /// All operations by name.
    pub(super) operations: BTreeMap<String, Operation>,
    /// All shapes by name.
    pub(super) shapes: BTreeMap<String, Shape>,
    /// Operations whose shapes and types are generated.
    pub(super) chosen: &'static [&'static str],
}

#[derive(Deserialize)]
struct ServiceFile {
    operations: BTreeMap<String, Operation>,
    shapes: BTreeMap<String, Shape>,
}

#[derive(Deserialize)]
pub(super) struct Operation {
    pub(super) http: Http,
    pub(super) input: Option<Reference>,
    pub(super) output: Option<Reference>,
    #[serde(default)]
    pub(super) errors: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Http {
    pub(super) method: String,
    pub(super) request_uri: String,
    #[serde(default = "ok")]
    pub(super) response_code: u16,
}

fn ok() -> u16 {
    200
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference {
    pub(super) shape: String,
    pub(super) location: Option<String>,
    pub(super) location_name: Option<String>,
    #[serde(default)]
    pub(super) idempotency_token: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shape {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) required: Vec<String>,
    #[serde(default)]
    pub(super) members: BTreeMap<String, Reference>,
    pub(super) payload: Option<String>,
    pub(super) member: Option<Reference>,
    pub(super) key: Option<Reference>,
    pub(super) value: Option<Reference>,
    #[serde(default, deserialize_with = "whole")]
    pub(super) min: Option<i64>,
    #[serde(default, deserialize_with = "whole")]
    pub(super) max: Option<i64>,
    pub(super) pattern: Option<String>,
    #[serde(default, rename = "enum")]
    pub(super) values: Vec<String>,
    #[serde(default)]
    pub(super) union: bool,
    #[serde(default)]
    pub(super) sensitive: bool,
    #[serde(default)]
    pub(super) streaming: bool,
    #[serde(default)]
    pub(super) eventstream: bool,
    #[serde(default)]
    pub(super) exception: bool,
    #[serde(default)]
    pub(super) document: bool,
}

/// Bounds of fractions are left out: no chosen operation has any.
fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(serde_json::Number::deserialize(deserializer)?.as_i64())
}

impl Service {
    /// The shape with this name.
    pub(super) fn shape(&self, name: &str) -> anyhow::Result<&Shape> {
        self.shapes.get(name).with_context(|| format!("the model has no shape {name}"))
    }

    /// The chosen operations.
    pub(super) fn chosen(&self) -> anyhow::Result<Vec<(&'static str, &Operation)>> {
        let mut chosen = Vec::new();
        for name in self.chosen {
            let operation = self.operations.get(*name);
            chosen.push((*name, operation.with_context(|| format!("the model has no operation {name}"))?));
        }
        Ok(chosen)
    }

    /// Names of all shapes below the inputs, or below the outputs, of the chosen operations; errors left out.
    pub(super) fn reachable(&self, outputs: bool) -> anyhow::Result<BTreeSet<&str>> {
        let mut seen = BTreeSet::new();
        let mut open = Vec::new();
        for (_, operation) in self.chosen()? {
            let root = if outputs { &operation.output } else { &operation.input };
            open.extend(root.as_ref().map(|root| root.shape.as_str()));
        }
        while let Some(name) = open.pop() {
            let shape = self.shape(name)?;
            if shape.exception || !seen.insert(name) {
                continue;
            }
            let parts = [&shape.member, &shape.key, &shape.value];
            open.extend(parts.into_iter().flatten().map(|part| part.shape.as_str()));
            // Statuses of answers are no members of any text.
            let members = shape.members.values().filter(|member| !member.is_status());
            open.extend(members.map(|member| member.shape.as_str()));
        }
        Ok(seen)
    }
}

impl Reference {
    /// Whether it is the status of an answer.
    pub(super) fn is_status(&self) -> bool {
        self.location.as_deref() == Some("statusCode")
    }
}

/// Reads one model, compressed or not.
pub(super) fn load(
    models: &Path,
    folder: &str,
    plane: &'static str,
    chosen: &'static [&'static str],
) -> anyhow::Result<Service> {
    let path = models.join(folder).join("service-2.json");
    let packed = models.join(folder).join("service-2.json.gz");
    let mut text = String::new();
    if packed.is_file() {
        let file = File::open(&packed).with_context(|| packed.display().to_string())?;
        GzDecoder::new(file).read_to_string(&mut text).with_context(|| packed.display().to_string())?;
    } else {
        let mut file = File::open(&path).with_context(|| path.display().to_string())?;
        file.read_to_string(&mut text).with_context(|| path.display().to_string())?;
    }
    let ServiceFile { operations, shapes } =
        serde_json::from_str(&text).with_context(|| format!("{folder}: not a service model"))?;
    Ok(Service { folder: folder.to_owned(), plane, operations, shapes, chosen })
}
