import { after } from "node:test";
import { createEtcdClient, openEtcd } from "#test/harness/etcd.ts";
import { silentLog } from "../log.ts";
import { openRegistry } from "./open.ts";
import { describeRegistry } from "./suite.ts";
import { parseRegistryTarget } from "./target.ts";

const server = await openEtcd();
after(() => server[Symbol.asyncDispose]());

describeRegistry({
  name: "etcd",
  open: (store) => openRegistry(parseRegistryTarget({ registry: `etcd://${server.address}/${store}` }), silentLog),
  compact: async (registry) => {
    using etcd = createEtcdClient(server);
    for (const value of ["before", "now"]) await registry.put("/compact", value);
    const put = await registry.put("/compact", "after");
    if (put.kind === "ok") await etcd.kv.compact({ revision: put.revision, physical: true });
  },
});
