// Owns which operators' time follows from the sizes of their weights and inputs. A small graph of these alone is quick on a
// request of common size. Left out are those that repeat or make tensors of any size from a few numbers (Loop, Range, Expand), and
// those with much work for each weight (Conv, LSTM). It is a first guess: how long runs take is measured (placed.ts).
// https://onnx.ai/onnx/operators/

const elementwise = `Abs Acos Add And Asin Atan Cast CastLike Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater
  GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or
  PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Tan Tanh ThresholdedRelu Where Xor`;
const shapes = `Concat Constant Flatten Gather GatherElements GatherND ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd
  ReduceSum ReduceSumSquare Reshape Shape Size Slice Split Squeeze Transpose Unsqueeze`;
const layers = `ArgMax ArgMin BatchNormalization Dropout Gemm LayerNormalization LogSoftmax LpNormalization MatMul Softmax TopK`;
const classical = `ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
  LinearRegressor Normalizer Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap`;

const steady: ReadonlySet<string> = new Set([elementwise, shapes, layers, classical].join(" ").split(/\s+/));
const domains: ReadonlySet<string> = new Set(["", "ai.onnx", "ai.onnx.ml"]);

/** Whether the operator's time follows from what can be told before it runs. Functions of a model have domains of their own. */
export function isSteady(operator: string, domain: string): boolean {
  return steady.has(operator) && domains.has(domain);
}
