// Publishes over gRPC, from the proto alone: `node publish.mjs PROTO ADDRESS KEY QUEUE BODY...` prints what came of it.
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [file, address, key, queue, ...bodies] = process.argv.slice(2);
const { Delivery } = grpc.loadPackageDefinition(protoLoader.loadSync(file)).restante.v1;
const service = new Delivery(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${key}`);
const notifications = bodies.map((body) => ({ queue, body: Buffer.from(body), contentType: "application/xml" }));

service.Publish({ notifications }, metadata, (error, response) => {
  if (error) {
    const code = error.metadata.get("restante-code")[0];
    console.log("refused", grpc.status[error.code], code);
  } else {
    for (const { id } of response.results) console.log("published", id);
  }
  service.close();
});
