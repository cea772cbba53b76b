// The entry of every npm script: sets up what is missing, then runs the command on the pinned Node.
// Only syntax that old versions of Node can read stands here, so that they too get the sentence below.
const major = Number(process.versions.node.split(".")[0]);
if (major < 20) {
  console.error(`Node ${process.versions.node} is too old to set Warmpath up: install Node 20 or newer.`);
  process.exit(1);
}
import("./start.mjs")
  .then((module) => module.start(process.argv.slice(2)))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
